"""The steps of a layer besides attention: norm, rotation, gate, and what follows attention in int8.

On a CPU in bf16 element-wise steps are bound by memory, so each makes few passes over few bytes.
Elsewhere they are torch's own operations. Costs of the alternatives:
lab/log/speed.md#2026-11-24-our-own-forward-pass.

    states [N, I] ─ each token's largest ─► int8 [N, I] · scale [N, 1] ┐
    weight [O, I] ─ each row's largest ───► int8 [I, O] · scale [O] ───┴─► int32 [N, O] ─► fp32

Processors with VNNI multiply int8 at twice the rate of bf16. Each token's states and each output of
a weight have a scale of their own (LLM.int8(), arXiv 2208.07339, §2.1). Departure: outlying
channels are not multiplied apart; at the sizes of a proxy no channel needs it. Query, key and value
stay in bf16: they are a seventh of the work, and rounding them moves scores most. Figures:
lab/log/speed.md#2026-11-27-int8-after-attention.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import rms_norm, silu

from tamis.probes.attention.linear_kernels import Product, can_fuse
from tamis.probes.attention.rounding.int8 import Int8Vectors

_EPS_SHARE = 2.0**-12
"""The largest share of a squared norm at which `eps` is ignored: an eighth of bf16's step."""
BLOCK_TOKENS = 256
"""Tokens whose products and element-wise steps are done together, so that they stay in cache; of
several threads, four times as many, since each waits for the others at every step."""


class RmsNorm:
    """Root mean square normalisation (Zhang and Sennrich 2019, arXiv 1910.07467, §4).

    On a CPU in bf16 it uses torch's operation for weight normalisation, which scales every row to a
    given length in one pass over memory, four times as fast as `rms_norm`. It has no `eps`, so
    states with a row for which `eps` matters are left to `rms_norm`.
    """

    def __init__(self, weight: Tensor, eps: float) -> None:
        self.weight, self.eps = weight, eps
        self.min_squared_norm = eps * weight.numel() / _EPS_SHARE
        root = math.sqrt(weight.numel())
        self._length = weight.new_full((1, 1), root)
        # the length is rounded to the dtype; the rounding error goes into the weight
        self._adjusted_weight = (
            weight.detach().float() * (root / self._length.float().view(()))
        ).to(weight)

    def __call__(self, states: Tensor) -> Tensor:
        """`[N, D]` to `[N, D]`."""
        if can_fuse(states):
            lengths = self._length.expand(len(states), 1).contiguous()
            scaled, norms = torch._weight_norm_interface(states, lengths, 0)
            if float(norms.amin()) ** 2 > self.min_squared_norm:
                return scaled.mul_(self._adjusted_weight)
        return rms_norm(states, self.weight.shape, self.weight, self.eps)


@dataclass(frozen=True, slots=True)
class Rotation:
    """Rotation by position (RoPE, Su et al. 2021, arXiv 2104.09864, §3.4) of a pass's tokens.

    Attributes:
        cos, sin, neg_sin: cosine, sine and negated sine of the angles: `[N, 1, d/2]`.
    """

    cos: Tensor
    sin: Tensor
    neg_sin: Tensor

    @classmethod
    def from_angles(cls, cos: Tensor, sin: Tensor) -> Rotation:
        """From cos and sin `[N, d]` as transformers returns them, with two equal halves."""
        half = cos.shape[-1] // 2
        cos, sin = cos[:, None, :half], sin[:, None, :half]
        return cls(cos, sin, -sin)

    def select(self, tile: slice) -> Rotation:
        """The rotation of a slice of the tokens."""
        return Rotation(self.cos[tile], self.sin[tile], self.neg_sin[tile])

    def __call__(self, states: Tensor, out: Tensor) -> None:
        """Rotates `[N, heads, d]` into `out`, of the same shape, in four passes over half of it."""
        half = self.cos.shape[-1]
        a, b = states[..., :half], states[..., half:]
        left, right = out[..., :half], out[..., half:]
        torch.mul(a, self.cos, out=left).addcmul_(b, self.neg_sin)
        torch.mul(b, self.cos, out=right).addcmul_(a, self.sin)


@dataclass(frozen=True, slots=True)
class RollingRotation:
    """The same rotation in three calls, for devices where calls are slow to start.

    Attributes:
        cos, sin: `[N, 1, d]`, the first half of the sine negated.
    """

    cos: Tensor
    sin: Tensor

    @classmethod
    def from_angles(cls, cos: Tensor, sin: Tensor) -> RollingRotation:
        """From cos and sin `[N, d]` as transformers returns them, with two equal halves."""
        half = sin.shape[-1] // 2
        return cls(cos[:, None], torch.cat((-sin[:, :half], sin[:, half:]), 1)[:, None])

    def select(self, tile: slice) -> RollingRotation:
        """The rotation of a slice of the tokens."""
        return RollingRotation(self.cos[tile], self.sin[tile])

    def __call__(self, states: Tensor, out: Tensor) -> None:
        """Rotates `[N, heads, d]` into `out`, of the same shape, which may be the same memory."""
        other = states.roll(states.shape[-1] // 2, -1)
        torch.mul(states, self.cos, out=out)
        out.addcmul_(other, self.sin)


def swiglu(states: Tensor, gate: Product, up: Product) -> Tensor:
    """SwiGLU (Shazeer 2020, arXiv 2002.05202, §2): `silu(gate(x)) * up(x)`, `[N, D]` to `[N, F]`.

    Where products can be fused, both steps happen while a tile is in cache.
    """
    if can_fuse(states):
        return up.multiply(states, gate.silu(states))
    return silu(gate(states), inplace=True).mul_(up(states))


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
        rows = Int8Vectors.quantize(weight.to_dense() if weight.is_mkldnn else weight)
        return cls(rows.codes.T.contiguous(), rows.scales[:, 0])


def multiply(states: Int8Vectors, weight: Int8Weight) -> Tensor:
    """States `[N, I]` times a weight: `[N, O]` fp32."""
    sums: Tensor = torch._int_mm(states.codes, weight.codes)
    return torch.mul(sums, weight.scale).mul_(states.scales)


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
        size = BLOCK_TOKENS if torch.get_num_threads() == 1 else 4 * BLOCK_TOKENS
        blocks = (torch.split(part, size) for part in (states, attended))
        for some, own in zip(*blocks, strict=True):
            some.add_(multiply(Int8Vectors.quantize(own), self.out))
            normed = Int8Vectors.quantize(self.norm(some))
            hidden = silu(multiply(normed, self.gate), inplace=True)
            hidden.mul_(torch._int_mm(normed.codes, self.up.codes)).mul_(self.up.scale)
            gated = Int8Vectors.quantize(hidden)
            # the states' scale is the same for all of a token's gated units, so it comes last
            gated.scales.mul_(normed.scales)
            some.add_(multiply(gated, self.down))
