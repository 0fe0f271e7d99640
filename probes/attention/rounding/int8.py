"""Keys and values in 8 bits: half the memory of bf16, at a loss.

Figures: lab/log/kept-passages.md#2026-11-24-storage-in-8-bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_MAX_CODE = 127


@dataclass(frozen=True, slots=True)
class Int8Vectors:
    """Vectors as integers from -127 to 127, with one scale per vector.

    Attributes:
        codes: `[..., d]` int8.
        scales: `[..., 1]` fp32; a vector is its codes times its scale.
    """

    codes: Tensor
    scales: Tensor

    @classmethod
    def quantize(cls, vectors: Tensor) -> Int8Vectors:
        """Rounds each vector (of a head and token) to steps of 1/127 of its largest component."""
        largest = torch.linalg.vector_norm(
            vectors, torch.inf, -1, keepdim=True, dtype=torch.float32
        )
        scales = largest.clamp_min_(torch.finfo(torch.float32).tiny).div_(_MAX_CODE)
        return cls(torch.div(vectors, scales).round_().to(torch.int8), scales)

    @classmethod
    def join(cls, parts: Sequence[Int8Vectors]) -> Int8Vectors:
        """Vectors `[H, n, d]` end to end along their second axis."""
        return cls(
            torch.cat([one.codes for one in parts], 1), torch.cat([one.scales for one in parts], 1)
        )

    def without_tokens(self) -> Int8Vectors:
        """None of the vectors `[H, n, d]`, in memory of its own: `[H, 0, d]`."""
        heads, _, size = self.codes.shape
        return Int8Vectors(self.codes.new_empty(heads, 0, size), self.scales.new_empty(heads, 0, 1))

    @property
    def shape(self) -> torch.Size:
        """The shape of the vectors."""
        return self.codes.shape

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.codes.nbytes + self.scales.nbytes

    def dequantize_into(self, target: Tensor) -> None:
        """Writes the vectors, in the dtype of the target."""
        torch.mul(self.codes, self.scales, out=target)


@dataclass(frozen=True, slots=True)
class Int8KVLayer:
    """Keys and values of one layer, rotated, then quantized: each `[Hkv, N, d]`."""

    keys: Int8Vectors
    values: Int8Vectors
