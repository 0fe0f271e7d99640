"""Splits documents into chunks: runs of whole units that follow the structure of the text.

document   [0, n)                         verbatim
units      [0, a) [a, b) …  [z, n)        sentences, list items, rows, code: text
chunks     [0, c) [c, d) …  [y, n)        runs of units; a heading begins one
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tamis.text.types import KINDS, CorpusDocument, Piece
from tamis.text.units.segment import segment

_HIDDEN = re.compile(r"<!--|<(script|style)\b[^<>]*>", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*>")


def blank_markup(text: str) -> str:
    """The text with a space for every character that a browser does not show; offsets stay."""
    parts, shown_from = [], 0
    for start, stop in _hidden_spans(text):
        parts += [text[shown_from:start], " " * (stop - start)]
        shown_from = stop
    return _TAG.sub(lambda tag: " " * len(tag[0]), "".join(parts) + text[shown_from:])


def visible_text(text: str) -> str:
    """The visible words of a part of a page: tags become spaces, `&eacute;` becomes é."""
    return html.unescape(blank_markup(text))


def _hidden_spans(text: str) -> list[tuple[int, int]]:
    """Half-open spans of comments, scripts and styles; one that is never closed hides nothing."""
    spans, position, unclosed = [], 0, set[str]()
    while match := _HIDDEN.search(text, position):
        name = (match[1] or "").lower()
        close = re.compile(rf"</{name}\s*>" if name else "-->", re.IGNORECASE)
        end = None if name in unclosed else close.search(text, match.end())
        if end is None:
            unclosed.add(name)
            position = match.end()
        else:
            spans.append((match.start(), end.end()))
            position = end.end()
    return spans


CHUNK_CHARS = 1_200
"""About 300 tokens of English: a paragraph or two, and one window of the proxy."""
_MIN_FILL_DIVISOR = 4
"""A heading begins a chunk once the one before it has a quarter of `chunk_chars`; else it joins."""

_BLOCK_TAG = re.compile(r"<(?:h[1-6]|table|tr|td|th|pre)(?=[\s/>])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive units of one document: `text[start:stop]`.

    Attributes:
        heading: the last heading before it; None where it begins with a heading itself.
        units: visible spans of its units, counted from `start`.
        pieces: its units, where its text alone, no prose, is read as others; else empty.
        html: whether the document is HTML, whose tags are not words.
    """

    start: int
    stop: int
    heading: str | None
    units: tuple[tuple[int, int], ...]
    html: bool = False
    pieces: tuple[Piece, ...] = ()


def chunk_id(doc: str, start: int, stop: int) -> str:
    """The stable id of a chunk: its document and its span in code points, `doc#start-stop`."""
    return f"{doc}#{start}-{stop}"


def title_line(title: str | None, heading: str | None) -> str | None:
    """The line that a chunk is read under: the document's title, then the section's heading."""
    return " › ".join(filter(None, (title, heading))) or None


def chunk_document(
    document: CorpusDocument, chunk_chars: int = CHUNK_CHARS, language: str = "en"
) -> Iterator[Chunk]:
    """Splits a document into chunks that partition its text; white space alone makes none.

    A chunk holds whole units up to `chunk_chars` code points; a longer unit is a chunk of its own.
    """
    pieces = segment(document.text, language)
    html = any(_is_html(document.text, piece) for piece in pieces)
    heading: str | None = None
    for run in _chunk_runs(pieces, chunk_chars):
        start, stop = run[0].start, run[-1].stop
        units = tuple((one.visible[0] - start, one.visible[1] - start) for one in run)
        own = tuple(
            Piece(one.start - start, one.stop - start, shown, one.kind)
            for one, shown in zip(run, units, strict=True)
        )
        is_prose = all(one.kind == "sentence" for one in own)
        same = is_prose or own == tuple(segment(document.text[start:stop], language))
        above = None if run[0].kind == "heading" else heading
        yield Chunk(start, stop, above, units, html, () if same else own)
        for piece in run:
            if piece.kind == "heading":
                heading = _heading_words(document.text[slice(*piece.visible)], html) or heading


def _is_html(text: str, piece: Piece) -> bool:
    """Whether a piece is HTML; a page may consist of rows, headings and code, which have tags."""
    if not KINDS[piece.kind].is_in_html:
        return piece.kind == "html"
    start, stop = piece.visible
    return text.startswith("<", start) and _BLOCK_TAG.search(text, start, stop) is not None


def _heading_words(text: str, html: bool) -> str:
    """The words of a heading, without tags and marks; of an underlined one its first line."""
    if html and "<" in text:
        return " ".join(visible_text(text).split())
    lines = text.strip().splitlines()
    return lines[0].strip("#= \t") if lines else ""


def _chunk_runs(pieces: Sequence[Piece], chunk_chars: int) -> Iterator[Sequence[Piece]]:
    """Runs of pieces, a chunk each."""
    first = 0
    for i in range(1, len(pieces)):
        is_full = pieces[i].visible[1] - pieces[first].start > chunk_chars
        if is_full or _heading_begins_chunk(pieces, first, i, chunk_chars):
            yield pieces[first:i]
            first = i
    if pieces:
        yield pieces[first:]


def _heading_begins_chunk(pieces: Sequence[Piece], first: int, i: int, chunk_chars: int) -> bool:
    """Whether piece `i` is a heading, and `[first, i)` is long enough and not headings alone."""
    chars = pieces[i].start - pieces[first].start
    return (
        pieces[i].kind == "heading"
        and chars * _MIN_FILL_DIVISOR >= chunk_chars
        and any(piece.kind != "heading" for piece in pieces[first:i])
    )
