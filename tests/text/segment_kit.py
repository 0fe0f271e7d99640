"""The pieces of a text as a reader sees them."""

from __future__ import annotations

from tamis.text.units.segment import segment


def visible_texts(text: str, language: str = "en") -> list[str]:
    return [text[slice(*piece.visible)] for piece in segment(text, language)]


def kinds(text: str) -> list[tuple[str, str]]:
    return [(piece.kind, text[slice(*piece.visible)]) for piece in segment(text)]
