"""Runs a window once for all readings that leave the pass as it is, and once for each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tamis.probes.prompt import Layout, PassageTokens
from tamis_lab.methods.window_attention.contract import (
    AskedRows,
    Reading,
    WindowAttention,
    WindowShape,
)
from tamis_lab.methods.window_attention.row_sums import BranchRows
from tamis_lab.methods.window_attention.visited_pass import visit_window
from tamis_lab.methods.window_attention.visitor import PassEdit

EMPTY_QUESTION = "N/A"


def read_window(
    reader: Any,
    passage: PassageTokens,
    question: str,
    layers: Sequence[int],
    readings: Mapping[str, Reading],
) -> dict[str, WindowAttention]:
    """The attention of one window for each reading, by its name.

    The question and "N/A" are branches of one pass: the passage runs once for both.

    Args:
        reader: a `Proxy`. layers: ascending. readings: by any names.

    Raises:
        BadInput: a layer that the proxy was not loaded with, or a prompt beyond its context.
    """
    layout = reader.layout
    asked = [layout.question_tokens(text) for text in (question, EMPTY_QUESTION)]
    trunk = (*layout.opening, *passage.ids)
    shape = WindowShape(
        trunk,
        len(layout.opening),
        passage.title_tokens,
        tuple((len(one.ids), one.first_row) for one in asked),
        passage.unit_spans,
    )
    words = [word_rows(layout, text) for text in (question, EMPTY_QUESTION)]
    branches = [one.ids for one in asked]

    def run(edit: PassEdit | None, names: Sequence[str]) -> WindowAttention:
        factories: dict[str, Any] = {}
        for name in names:
            factories |= readings[name].visitors(shape)
        sums = {name: make() for name, make in factories.items()}
        rows = [BranchRows(b, shape.trunk + n) for b, (n, _) in enumerate(shape.branches)]
        visit_window(reader, trunk, branches, layers, [*rows, *sums.values()], edit)
        whole = [
            AskedRows(kept.result(), first, own)
            for kept, (_, first), own in zip(rows, shape.branches, words, strict=True)
        ]
        return WindowAttention(shape, tuple(layers), tuple(whole), sums)

    edits = {name: reading.edit(shape) for name, reading in readings.items()}
    plain = run(None, [name for name, edit in edits.items() if edit is None])
    return {
        name: plain if edit is None else replace(run(edit, [name]), native=plain)
        for name, edit in edits.items()
    }


def word_rows(layout: Layout, question: str) -> Tensor:
    """Which rows of a question's branch are its own tokens with a letter or digit: `[n]` bool."""
    text = f" {question}"
    asked, encoded = layout.question_tokens(question), layout.tokenizer.encode(text)
    own = [any(char.isalnum() for char in text[a:b]) for a, b in encoded.offsets]
    after = len(asked.ids) - asked.first_row - len(own)
    return torch.tensor([*[False] * asked.first_row, *own, *[False] * after])
