"""A layer of a passage of which fewer keys are kept than it has tokens.

    columns   [0, M) kept tokens of a head, padding   [M, C) stand-ins, one a unit (optional)

A question attends to the columns instead of the tokens; what it pays to a column goes back to the
tokens that the column stands for, in equal parts, so a reading has the shape it always has. Tokens
without a column get nothing, and what they would have got goes to the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from tamis.probes.attention.rounding.int8 import Int8Vectors
from tamis.probes.attention.rounding.low_bits import LowBitVectors

Vectors = Tensor | Int8Vectors | LowBitVectors
"""Vectors `[Hkv, C, d]`: exact, in 8 bits, or in fewer."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Which tokens the columns of a layer stand for.

    Attributes:
        source: `[Hkv, N]` int64, the column of each token, -1 for none.
        share: `[Hkv, N]` fp32, which part of its column's weight a token gets.
        bias: `[Hkv, C]` fp32, added to the logits: -inf where a head has no such column.
        positions: `[Hkv, C]` int64, the token at whose place a column stands.
    """

    source: Tensor
    share: Tensor
    bias: Tensor
    positions: Tensor

    def spread(self, weights: Tensor) -> Tensor:
        """Weights of columns `[H, R, C]` to weights of tokens `[H, R, N]`."""
        group = weights.shape[0] // self.source.shape[0]
        source = self.source.repeat_interleave(group, 0)[:, None]
        share = self.share.repeat_interleave(group, 0)[:, None]
        index = source.clamp_min(0).expand(-1, weights.shape[1], -1)
        return weights.gather(-1, index) * share

    def map(self, change: Callable[[Tensor], Tensor]) -> Placement:
        """The same with every tensor changed, such as moved to another device."""
        parts = (self.source, self.share, self.bias, self.positions)
        return Placement(*(change(part) for part in parts))

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        parts = (self.source, self.share, self.bias, self.positions)
        return sum(part.nbytes for part in parts)


@dataclass(frozen=True, slots=True)
class ThinKVLayer:
    """Keys and values of one layer, in fewer bits, for fewer tokens, or both.

    Attributes:
        keys: `[Hkv, C, d]`, rotated.
        values: likewise; `[Hkv, 0, d]` in a layer whose values no reading uses.
        placement: what the columns stand for; None where column t is token t.
    """

    keys: Vectors
    values: Vectors
    placement: Placement | None = None

    @property
    def tokens(self) -> int:
        """The number of tokens N of the passage."""
        return int(self.keys.shape[1] if self.placement is None else self.placement.source.shape[1])

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return sum(
            part.nbytes for part in (self.keys, self.values, self.placement) if part is not None
        )
