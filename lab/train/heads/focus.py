"""Fits focus directions: what added to the queries of contextual heads moves mass to the gold.

See `methods/readings/focus.py` for the source and its departures. The model is read once for every
window that has gold; queries and keys of the chosen heads are kept, and directions are fitted on
them head by head, because the pass does not change with them:

    loss = - mean over windows, heads and the question's rows of the mass on gold units
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tamis.compressors.reading.windows import WINDOW_TOKENS, split_windows
from tamis.probes.errors import BadInput
from tamis.probes.probing.heads import Head
from tamis_lab.datasets.records import Record, gold_labels, passages_of, request_units
from tamis_lab.methods.readings.focus import focused_rows, turned_directions
from tamis_lab.methods.window_attention.visited_pass import visit_window
from tamis_lab.methods.window_attention.visitor import RowBlock
from tamis_lab.train.heads.finder import Progress

EPOCHS, RATE = 10, 0.02


@dataclass(frozen=True, slots=True)
class GoldWindow:
    """One window with gold: of each chosen head its states, and which tokens are gold.

    Attributes:
        queries: scaled and rotated, `[R, d]` a head. keys: `[K, d]` a head.
        at: positions of the rows, `[R]`. gold: `[K]` bool.
    """

    queries: Sequence[Tensor]
    keys: Sequence[Tensor]
    at: Tensor
    gold: Tensor


class HeadStates:
    """The question rows' queries and all keys of some heads."""

    def __init__(self, heads: Sequence[Head], trunk: int, first_row: int) -> None:
        """Of the first branch's rows from `first_row` on; a question of one block of rows."""
        self._heads, self._first = heads, trunk + first_row
        self.queries: dict[Head, Tensor] = {}
        self.keys: dict[Head, Tensor] = {}

    def visit(self, block: RowBlock) -> None:
        """Keeps the states of the block's layer."""
        if block.branch != 0:
            return
        shared = len(block.queries) // len(block.keys)
        counted = max(0, self._first - block.first)
        for layer, head in self._heads:
            if layer == block.layer:
                rows = block.queries[head, counted:]
                before = self.queries.get((layer, head))
                self.queries[layer, head] = rows if before is None else torch.cat((before, rows))
                self.keys[layer, head] = block.keys[head // shared]


def fit_directions(
    reader: Any,
    records: Sequence[Record],
    heads: Sequence[Head],
    report: Progress,
    epochs: int = EPOCHS,
    rate: float = RATE,
) -> tuple[Tensor, list[float]]:
    """Directions `[layers, H, d]` of the whole model, 0 but for `heads`; and the mass by epoch.

    Args:
        reader: a `Proxy`. records: labelled; never those that are judged.

    Returns:
        the directions, and the mean mass on gold before each epoch and after the last.

    Raises:
        BadInput: no record has gold.
    """
    windows = []
    for done, record in enumerate(records, 1):
        windows += list(gold_windows(reader, record, heads))
        report(done, len(records))
    if not windows:
        raise BadInput("no record has a gold sentence; directions need some")
    card, size = reader.card, int(reader.body.layers[0].self_attn.head_dim)
    found = torch.zeros(len(heads), size, requires_grad=True)
    solver = torch.optim.AdamW([found], lr=rate, weight_decay=0.0)
    masses = []
    for _ in range(epochs):
        total = 0.0
        for window in windows:
            solver.zero_grad()
            mass = gold_mass(reader.body, window, heads, found)
            (-mass).backward()  # type: ignore[no-untyped-call]
            solver.step()
            total += float(mass.detach())
        masses.append(total / len(windows))
    with torch.no_grad():
        after = [float(gold_mass(reader.body, window, heads, found)) for window in windows]
    whole = torch.zeros(card.layers, card.heads, size)
    for (layer, head), direction in zip(heads, found.detach(), strict=True):
        whole[layer, head] = direction
    return whole, [*masses, sum(after) / len(after)]


def gold_windows(reader: Any, record: Record, heads: Sequence[Head]) -> Iterator[GoldWindow]:
    """The windows of a record that have gold, with the states of some heads."""
    passages, units = passages_of(record), request_units(record)
    labels = gold_labels(record, units)
    asked = reader.layout.question_tokens(record["question"])
    opening = reader.layout.opening
    for window in split_windows(reader.layout, passages, units, WINDOW_TOKENS):
        own = labels[window.first : window.stop]
        if not any(own):
            continue
        trunk = (*opening, *window.tokens.ids)
        states = HeadStates(heads, len(trunk), asked.first_row)
        layers = sorted({layer for layer, _ in heads})
        visit_window(reader, trunk, [asked.ids], layers, [states])
        gold = torch.zeros(len(trunk) + len(asked.ids), dtype=torch.bool)
        start = len(opening) + window.tokens.title_tokens
        for (a, b), is_gold in zip(window.tokens.unit_spans, own, strict=True):
            gold[start + a : start + b] |= is_gold
        yield GoldWindow(
            [states.queries[head].clone() for head in heads],  # no inference tensors: they
            [states.keys[head].clone() for head in heads],  # cannot take part in a gradient
            torch.arange(len(trunk) + asked.first_row, len(gold)),
            gold,
        )


def gold_mass(body: Any, window: GoldWindow, heads: Sequence[Head], directions: Tensor) -> Tensor:
    """The mean over heads and rows of the mass on gold tokens: a number.

    Args:
        directions: of the heads, `[h, d]`.
    """
    masses = []
    for (layer, _), queries, keys, direction in zip(
        heads, window.queries, window.keys, directions, strict=True
    ):
        turned = turned_directions(body, layer, direction[None], window.at)
        rows = focused_rows(queries[None], keys[None], turned, window.at)
        masses.append(rows[..., window.gold].sum(-1).mean())
    return torch.stack(masses).mean()
