"""Keys and values in 8 bits: half the memory of bf16, at a loss (docs/log/kept-passages.md)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_MAX_CODE = 127


@dataclass(frozen=True, slots=True)
class Int8Vectors:
    """Vectors as whole numbers from -127 to 127, and one scale a vector.

    Attributes:
        codes: `[..., d]` int8. scales: `[..., 1]` fp32; a vector is its codes times its scale.
    """

    codes: Tensor
    scales: Tensor

    @classmethod
    def quantize(cls, vectors: Tensor) -> Int8Vectors:
        """Rounds to the nearest step of a vector's largest part, by head and token."""
        exact = vectors.float()
        scales = exact.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
        scales = scales / _MAX_CODE
        return cls((exact / scales).round_().to(torch.int8), scales)

    @property
    def shape(self) -> torch.Size:
        """Of the vectors."""
        return self.codes.shape

    def to(self, device: str | torch.device) -> Int8Vectors:
        """The same on another device."""
        return Int8Vectors(self.codes.to(device), self.scales.to(device))

    def dequantize_into(self, place: Tensor) -> None:
        """Writes the vectors, in the dtype of the place."""
        torch.mul(self.codes, self.scales, out=place)


@dataclass(frozen=True, slots=True)
class Int8KVLayer:
    """Keys and values of one layer, rotated, then rounded: each `[Hkv, N, d]`."""

    keys: Int8Vectors
    values: Int8Vectors
