"""What comes after attention in whole numbers: int8 weights and states, sums in int32.

    states [N, I] ─ each token's largest ─► int8 [N, I] · scale [N, 1] ┐
    weight [O, I] ─ each row's largest ───► int8 [I, O] · scale [O] ───┴─► int32 [N, O] ─► fp32

Processors with VNNI and without tiles multiply int8 at twice the rate of bf16. Each token's states
and each output of a weight have a scale of their own (LLM.int8(), arXiv 2208.07339, §2.1).
Departure: outlying channels are not multiplied apart; at the sizes of a proxy no channel needs it.
Query, key and value stay in bf16: they are a seventh of the work, and rounding them moves scores
most. Figures: docs/log/speed.md#2026-11-27-int8-after-attention.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import silu

from tamis.probes.attention.linear_kernels import (
    Product,
    can_fuse,
    cpu_capabilities,
    multiplies_int8,
)
from tamis.probes.model.ops import RmsNorm

BLOCK_TOKENS = 256
"""Tokens whose products and element-wise steps are done together, so that they stay in cache."""
_MAX_CODE = 127
_TINY = 1e-12


def is_faster(states: Tensor) -> bool:
    """Whether products of such states are faster in int8: bf16, on a processor with VNNI alone."""
    has_tiles = bool(cpu_capabilities().get("amx_int8"))
    return can_fuse(states) and multiplies_int8(states.device) and not has_tiles


@dataclass(frozen=True, slots=True)
class Int8Weight:
    """A weight as integers from -127 to 127.

    Attributes:
        codes: `[I, O]` int8. scale: `[O]` fp32; a column is its codes times its scale.
    """

    codes: Tensor
    scale: Tensor

    @classmethod
    def quantize(cls, product: Product) -> Int8Weight:
        """The weight of a product without a bias."""
        weight = product.weight.detach()
        codes, scale = quantize_rows(weight.to_dense() if weight.is_mkldnn else weight)
        return cls(codes.T.contiguous(), scale[:, 0])


def quantize_rows(states: Tensor) -> tuple[Tensor, Tensor]:
    """Each row of `[N, I]` as integers from -127 to 127, and its scale `[N, 1]` fp32."""
    largest = torch.linalg.vector_norm(states, torch.inf, 1, keepdim=True, dtype=torch.float32)
    scale = largest.mul_(1 / _MAX_CODE).clamp_min_(_TINY)
    return torch.div(states, scale).round_().to(torch.int8), scale


def multiply(codes: Tensor, scale: Tensor, weight: Int8Weight) -> Tensor:
    """Quantized rows `[N, I]` times a weight: `[N, O]` fp32."""
    sums: Tensor = torch._int_mm(codes, weight.codes)
    return torch.mul(sums, weight.scale).mul_(scale)


@dataclass(frozen=True, slots=True)
class Int8FeedForward:
    """A layer from its attention on: output projection, norm, SwiGLU (arXiv 2002.05202, §2)."""

    out: Int8Weight
    norm: RmsNorm
    gate: Int8Weight
    up: Int8Weight
    down: Int8Weight

    @classmethod
    def quantize(
        cls, out: Product, norm: RmsNorm, gate: Product, up: Product, down: Product
    ) -> Int8FeedForward:
        """From a layer's products, which have no biases; their weights stay beside these."""
        weights = [Int8Weight.quantize(product) for product in (out, gate, up, down)]
        return cls(weights[0], norm, *weights[1:])

    def add(self, states: Tensor, attended: Tensor) -> None:
        """Adds what follows attention to states `[N, D]`, in place."""
        blocks = (torch.split(part, BLOCK_TOKENS) for part in (states, attended))
        for some, own in zip(*blocks, strict=True):
            some.add_(multiply(*quantize_rows(own), self.out))
            codes, scale = quantize_rows(self.norm(some))
            hidden = silu(multiply(codes, scale, self.gate), inplace=True)
            hidden.mul_(torch._int_mm(codes, self.up.codes)).mul_(self.up.scale)
            codes, own_scale = quantize_rows(hidden)
            # the states' scale is the same for all of a token's gated units, so it comes last
            some.add_(multiply(codes, own_scale.mul_(scale), self.down))
