"""Every row of attention once, block by block, for sums that need all of them.

A window is read as a trunk with branches, in one pass:

    trunk      opening, title, passage          rows attend to the trunk up to themselves
    branch 0   the question                     rows attend to the trunk and their own branch
    branch 1   another question, such as "N/A"  likewise: no branch attends to another

Visitors are given blocks of at most `BLOCK_ROWS` rows and keep sums, so that `[H, N, N]` is never
held: for 9 heads and 512 tokens a layer's rows are 9 MB, a block's a quarter of that. An edit may
replace states, weights or outputs on the way, which deeper layers then see.

Softmax and weighted sums are fp32 here; the product's own pass (`packed`) rounds weights to the
model's dtype on some processors, so the two agree to that rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from tamis.probes.attention.recorder import AttentionInput, StopForward, causal_mask, softmax_rows

BLOCK_ROWS = 128


@dataclass(frozen=True, slots=True)
class RowBlock:
    """Consecutive rows of one layer, with the K keys up to the last row.

    Attributes:
        layer: of the model. branch: the rows' branch; None for rows of the trunk.
        first: the position of the first row in its own sequence: the trunk, or trunk and branch.
        weights: softmax, `[H, n, K]` fp32; row i has zeros after `first + i`.
        queries: rotated, times the scale of the logits: `[H, n, d]` fp32.
        keys, values: rotated keys, and values: `[Hkv, K, d]` fp32.

    All tensors are on the CPU, wherever the model runs.
    """

    layer: int
    branch: int | None
    first: int
    weights: Tensor
    queries: Tensor
    keys: Tensor
    values: Tensor

    @property
    def positions(self) -> Tensor:
        """The position of each row in its own sequence: `[n]`."""
        return torch.arange(self.first, self.first + self.weights.shape[1])


class RowVisitor(Protocol):
    """Whatever keeps sums of rows."""

    def visit(self, block: RowBlock) -> None:
        """Takes a block in; the trunk's blocks come first in every layer, then each branch's."""
        ...


class PassEdit:
    """A change to the pass itself; this one changes nothing. Subclasses override what they edit."""

    def states(
        self, layer: int, query: Tensor, key: Tensor, positions: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Query `[H, n, d]` and key `[Hkv, n, d]`, rotated, of one sequence's tokens at `[n]`."""
        return query, key

    def weights(self, layer: int, weights: Tensor, first: int) -> Tensor:
        """The softmax rows of a block: `[H, n, K]`, of the rows from position `first` on."""
        return weights

    def output(self, layer: int, output: Tensor) -> Tensor:
        """What the heads of a block put out, before they are mixed: `[H, n, d]`."""
        return output


class VisitedAttention:
    """The attention of one window, seen by visitors; a `CustomAttention` of the recorder."""

    def __init__(
        self,
        lengths: Sequence[int],
        layers: Sequence[int],
        visitors: Sequence[RowVisitor],
        edit: PassEdit | None = None,
        stop_after: int | None = None,
    ) -> None:
        """The attention of a trunk and its branches.

        Args:
            lengths: tokens of the trunk, then of each branch, as they are packed.
            layers: those whose rows are visited.
            stop_after: raise `StopForward` once this layer was visited.
        """
        self.trunk, *self.branches = lengths
        self.layers, self.visitors = frozenset(layers), tuple(visitors)
        self.edit, self.stop_after = edit, stop_after

    def attend(self, given: AttentionInput) -> Tensor:
        """`query [1, H, N, d]`, `key` and `value [1, Hkv, N, d]` to `[1, N, H, d]`.

        Raises:
            StopForward: this is the last layer that is visited.
        """
        layer, query, key, value, scale, window = given
        sizes = [self.trunk, *self.branches]
        queries, keys, values = (
            [piece.float() for piece in torch.split(part[0], sizes, 1)]
            for part in (query, key, value)
        )
        outputs = []
        for s, (q, k, v) in enumerate(zip(queries, keys, values, strict=True)):
            past = self.trunk if s else 0
            if self.edit is not None:
                positions = torch.arange(past, past + q.shape[1], device=q.device)
                q, k = self.edit.states(layer, q, k, positions)
                keys[s] = k
            if s:
                k, v = torch.cat((keys[0], k), 1), torch.cat((values[0], v), 1)
            branch = s - 1 if s else None
            outputs += list(self._blocks(layer, branch, past, q * scale, k, v, window))
        if layer == self.stop_after:
            raise StopForward
        return torch.cat(outputs, 1).transpose(0, 1)[None].to(query.dtype)

    def _blocks(
        self,
        layer: int,
        branch: int | None,
        past: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        window: int | None,
    ) -> Iterator[Tensor]:
        """The outputs of one sequence's rows, `[H, n, d]` a block, after they were visited."""
        for start in range(0, query.shape[1], BLOCK_ROWS):
            q = query[:, start : start + BLOCK_ROWS]
            first, stop = past + start, past + start + q.shape[1]
            k, v = key[:, :stop], value[:, :stop]
            mask = causal_mask(first, stop, stop, window, q.device)
            weights = softmax_rows(q, k, mask, 1.0)
            if self.edit is not None:
                weights = self.edit.weights(layer, weights, first)
            if layer in self.layers:
                block = RowBlock(layer, branch, first, *(x.cpu() for x in (weights, q, k, v)))
                for visitor in self.visitors:
                    visitor.visit(block)
            shared = weights.reshape(v.shape[0], -1, weights.shape[-1])
            output = (shared @ v).view(q.shape)
            yield output if self.edit is None else self.edit.output(layer, output)
