"""Attention over random tokens that are repeated: to a token's earlier copies, and after them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from tamis.probes.errors import BadInput
from tamis_lab.methods.window_attention.row_sums import LayerSums
from tamis_lab.methods.window_attention.visited_pass import visit_window
from tamis_lab.methods.window_attention.visitor import RowBlock

TOKENS, REPEATS, DRAWS = 256, 4, 8


class RepeatSum:
    """Shares of rows from the second repeat on, after `start` other tokens: `[L, H]` each.

    echo       Σ a[i, j] over earlier j that are copies of i
    induction  Σ a[i, j] over earlier j that follow a copy of i
    """

    def __init__(self, tokens: int, start: int) -> None:
        """`tokens` are those of one repeat."""
        self._tokens, self._start = tokens, start
        self._echo, self._induction, self._rows = LayerSums(), LayerSums(), LayerSums()

    def visit(self, block: RowBlock) -> None:
        """Adds the rows of a block."""
        row, column = block.positions[:, None], torch.arange(block.weights.shape[-1])
        counted = row >= self._start + self._tokens
        earlier = (column >= self._start) & (column < row) & counted
        copies = earlier & ((row - column) % self._tokens == 0)
        follows = counted & (column > self._start) & (column <= row)
        follows &= (row + 1 - column) % self._tokens == 0
        for sums, mask in ((self._echo, copies), (self._induction, follows)):
            sums.add(block.layer, (block.weights * mask).sum((1, 2)))
        self._rows.add(block.layer, counted.sum())

    def result(self) -> tuple[Tensor, Tensor]:
        """The mean shares, echo and induction: `[L, H]` each."""
        rows = self._rows.stack()[:, None].clamp_min(1)
        return self._echo.stack() / rows, self._induction.stack() / rows


def repeat_scores(
    reader: Any, tokens: int, draws: int, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Echo and induction of every head in each of some draws: `[L, H]` each.

    Raises:
        BadInput: fewer than 2 tokens, no draw, or a prompt beyond the model's context.
    """
    if tokens < 2 or draws < 1:
        raise BadInput(f"tokens is {tokens} and draws {draws}; give at least 2 and 1")
    chance = torch.Generator().manual_seed(seed)
    first = reader.layout.opening[:1]
    for _ in range(draws):
        words = random_words(reader, tokens, chance)
        sums = RepeatSum(tokens, len(first))
        ids = (*first, *(words * REPEATS))
        visit_window(reader, ids, [], range(reader.card.layers), [sums])
        yield sums.result()


def random_words(reader: Any, count: int, chance: torch.Generator) -> list[int]:
    """Random tokens with a letter or digit, each once; special ones and parts of characters aside.

    Raises:
        BadInput: the vocabulary has too few.
    """
    vocabulary = int(reader.config.vocab_size)
    text, found = reader.layout.tokenizer.token_text, []
    for token in torch.randperm(vocabulary, generator=chance).tolist():
        shown = text(token)
        if any(char.isalnum() for char in shown) and "\ufffd" not in shown and "<" not in shown:
            found.append(token)
        if len(found) == count:
            return found
    raise BadInput(f"{reader.card.name} has {len(found)} tokens that are words; ask for fewer")
