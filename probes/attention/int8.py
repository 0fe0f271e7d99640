"""Keys and values in 8 bits: half the memory of bf16, for a loss that is measured in LOG.md."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_MOST = 127


@dataclass(frozen=True, slots=True)
class Rounded:
    """Vectors as whole numbers from -127 to 127, and one scale a vector.

    Attributes:
        codes: `[..., d]` int8. scales: `[..., 1]` fp32; a vector is its codes times its scale.
    """

    codes: Tensor
    scales: Tensor

    @classmethod
    def of(cls, vectors: Tensor) -> Rounded:
        """Rounds to the nearest step of a vector's largest part, by head and token."""
        exact = vectors.float()
        scales = exact.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
        scales = scales / _MOST
        return cls((exact / scales).round_().to(torch.int8), scales)

    @property
    def shape(self) -> torch.Size:
        """Of the vectors."""
        return self.codes.shape

    def to(self, device: str | torch.device) -> Rounded:
        """The same on another device."""
        return Rounded(self.codes.to(device), self.scales.to(device))

    def into(self, place: Tensor) -> None:
        """Writes the vectors, in the dtype of the place."""
        torch.mul(self.codes, self.scales, out=place)


@dataclass(frozen=True, slots=True)
class RoundedLayer:
    """Keys and values of one layer, rotated, then rounded: each `[Hkv, N, d]`."""

    keys: Rounded
    values: Rounded
