"""Visitors that keep sums of rows: what readings need of all rows, in `[L, H, N]` at most.

    BranchRows   every row of a branch, whole           the question's rows
    ColumnSum    Σ_i a[i, j]                            how much later tokens attend to j
    BandSum      Σ_i a[i, j], i - j in a band           which tokens later ones come back to
    SpanSum      Σ_j a[i, j]·min(i - j, most)           how far row i attends back
    ValueNorm    ‖W_O^h v_j‖                            how much a token's value weighs
    PathSum      the running product of rollout         `[N, N]`, one for all layers

All but `BranchRows` and parts of `PathSum` are of the trunk, so they do not depend on the question.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from tamis_lab.methods.attention_math import normalise_rows
from tamis_lab.methods.window_attention.visitor import RowBlock


class LayerSums:
    """A sum for each layer, in the order in which layers are visited."""

    def __init__(self) -> None:
        self._sums: dict[int, Tensor] = {}

    def add(self, layer: int, part: Tensor) -> None:
        """Adds to the sum of a layer."""
        self._sums[layer] = self._sums[layer] + part if layer in self._sums else part

    def stack(self) -> Tensor:
        """The sums: `[L, ...]`."""
        return torch.stack(list(self._sums.values()))


class _RowFigure:
    """A figure per head and row of the trunk, or of a branch; subclasses say which."""

    def __init__(self, branch: int | None = None) -> None:
        self._branch = branch
        self._layers: dict[int, list[Tensor]] = {}

    def visit(self, block: RowBlock) -> None:
        """Adds the rows of the trunk, or of the branch."""
        if block.branch == self._branch:
            self._layers.setdefault(block.layer, []).append(self.figure(block))

    def figure(self, block: RowBlock) -> Tensor:
        """Of each row of a block: `[H, n, ...]`."""
        raise NotImplementedError

    def result(self) -> Tensor:
        """`[L, H, n, ...]`, by row."""
        return torch.stack([torch.cat(rows, 1) for rows in self._layers.values()])


class BranchRows(_RowFigure):
    """Every row of one branch, over the trunk and the branch: `[L, H, n, P + n]`."""

    def __init__(self, branch: int, tokens: int) -> None:
        """Rows of a branch; `tokens` are those of trunk and branch together."""
        super().__init__(branch)
        self._tokens = tokens

    def figure(self, block: RowBlock) -> Tensor:
        """The rows themselves: `[H, n, P + n]`."""
        return pad(block.weights, (0, self._tokens - block.weights.shape[-1]))


class SpanSum(_RowFigure):
    """How far each row attends back on average, no token counting for more than `most`."""

    def __init__(self, most: int | None = None) -> None:
        super().__init__()
        self._most = most

    def figure(self, block: RowBlock) -> Tensor:
        """Σ_j a[i, j]·min(i - j, most): `[H, n]`."""
        back = (block.positions[:, None] - torch.arange(block.weights.shape[-1])).clamp(
            0, self._most
        )
        return (block.weights * back).sum(-1)


class _ColumnFigure:
    """A sum over the trunk's rows per head and column; subclasses say which rows count."""

    def __init__(self, trunk: int) -> None:
        self._trunk = trunk
        self._sums = LayerSums()

    def visit(self, block: RowBlock) -> None:
        """Adds the rows of the trunk."""
        if block.branch is None:
            sums = self.figure(block)
            self._sums.add(block.layer, pad(sums, (0, self._trunk - sums.shape[-1])))

    def figure(self, block: RowBlock) -> Tensor:
        """Of each column of a block: `[H, K]`."""
        raise NotImplementedError

    def result(self) -> Tensor:
        """`[L, H, P]`, by column."""
        return self._sums.stack()


class ColumnSum(_ColumnFigure):
    """The attention that each token draws from all rows of the trunk."""

    def figure(self, block: RowBlock) -> Tensor:
        """Σ_i a[i, j]: `[H, K]`."""
        return block.weights.sum(1)


class BandSum(_ColumnFigure):
    """The attention that each token draws from the rows `low` to `high` places after it."""

    def __init__(self, trunk: int, low: int, high: int) -> None:
        super().__init__(trunk)
        self._low, self._high = low, high

    def figure(self, block: RowBlock) -> Tensor:
        """Σ_i a[i, j] over low ≤ i - j ≤ high: `[H, K]`."""
        back = block.positions[:, None] - torch.arange(block.weights.shape[-1])
        return (block.weights * ((back >= self._low) & (back <= self._high))).sum(1)


class ValueNorm:
    """The length of what each head writes for each token of the trunk: ‖W_O^h v_j‖."""

    def __init__(self, grams: Sequence[Tensor], trunk: int) -> None:
        """`grams` has W_O^hᵀ W_O^h of every layer of the model, `[H, d, d]` each."""
        self._grams, self._trunk = grams, trunk
        self._layers: dict[int, Tensor] = {}

    def visit(self, block: RowBlock) -> None:
        """Takes the values of all tokens once a layer, from the trunk's last block."""
        if block.branch is None and block.values.shape[1] == self._trunk:
            gram = self._grams[block.layer]
            values = block.values.repeat_interleave(len(gram) // len(block.values), 0)
            squares = ((values @ gram) * values).sum(-1)
            self._layers[block.layer] = squares.clamp_min(0).sqrt()

    def result(self) -> Tensor:
        """`[L, H, P]`."""
        return torch.stack(list(self._layers.values()))


def output_grams(body: Any) -> list[Tensor]:
    """W_O^hᵀ W_O^h of every head, layer by layer: `[H, d, d]` fp32 each, on the CPU as rows are."""
    weights = map(output_weights, body.layers)
    return [(by_head.transpose(1, 2) @ by_head).cpu() for by_head in weights]


def output_weights(layer: Any) -> Tensor:
    """W_O^h of every head of a decoder's layer: `[H, D, d]` fp32."""
    weight = layer.self_attn.o_proj.weight.detach().float()
    by_head: Tensor = weight.view(len(weight), -1, layer.self_attn.head_dim)
    return by_head.transpose(0, 1)


class PathSum:
    """Attention traced back through the layers below, by one running product.

    Source: attention rollout (Abnar & Zuidema 2020, arXiv 2005.00928, §3): Ã_l = ½ (mean over heads
    of A_l + I) and R_l = Ã_l R_{l-1}, R_0 = I.

    Departures: columns before `cut`, the template's, are dropped and rows normalised again before
    heads are mixed into the path: in a causal model mass runs to the first token at every level.
    Branches have rows of R over the trunk's columns alone; what they owe to their own tokens is
    not followed.

    Attributes:
        rollout: per branch `[L, P']`, the mean over its rows from `first_row` on of R_l.
        traced: per branch `[L, H, P']`, the mean over those rows r of Σ_i a[r, i] R_{l-1}[i, ·].
    """

    def __init__(self, trunk: int, cut: int, branches: Sequence[tuple[int, int]]) -> None:
        """A path over the columns `[cut, trunk)`; `branches` has tokens and first row of each."""
        self._trunk, self._cut, self._branches = trunk, cut, branches
        self._layer = -1
        self.above = torch.eye(trunk - cut)
        self._branch_above = [torch.zeros(tokens, trunk - cut) for tokens, _ in branches]
        self.rollout: list[list[Tensor]] = [[] for _ in branches]
        self.traced: list[list[Tensor]] = [[] for _ in branches]

    def visit(self, block: RowBlock) -> None:
        """Multiplies the rows into the path."""
        if block.layer != self._layer:
            self._layer = block.layer
            self._below, self._branch_below = self.above, self._branch_above
            self.above = torch.zeros_like(self._below)
            self._branch_above = [torch.zeros_like(rows) for rows in self._branch_below]
            for found in (*self.rollout, *self.traced):
                found.append(torch.zeros(()))
        if block.branch is None:
            self._add_trunk(block)
        else:
            self._add_branch(block, block.branch)

    def _add_trunk(self, block: RowBlock) -> None:
        skipped = max(0, self._cut - block.first)  # rows of the template
        mixed = normalise_rows(block.weights[:, skipped:, self._cut :].mean(0))
        start = block.first + skipped - self._cut
        rows = slice(start, start + len(mixed))
        self.above[rows] = (mixed @ self._below[: mixed.shape[1]] + self._below[rows]) / 2

    def _add_branch(self, block: RowBlock, branch: int) -> None:
        below, (tokens, first_row) = self._branch_below[branch], self._branches[branch]
        width = self._trunk - self._cut
        mixed = normalise_rows(block.weights[..., self._cut :].mean(0))
        start = block.first - self._trunk
        rows = slice(start, start + len(mixed))
        own = mixed[:, width:]
        through = mixed[:, :width] @ self._below + own @ below[: own.shape[1]]
        above = self._branch_above[branch][rows] = (through + below[rows]) / 2
        counted = max(0, first_row - start)
        share = 1 / (tokens - first_row)
        asked = block.weights[:, counted:, self._cut : self._trunk].sum(1) @ self._below
        self.rollout[branch][-1] = self.rollout[branch][-1] + above[counted:].sum(0) * share
        self.traced[branch][-1] = self.traced[branch][-1] + asked * share
