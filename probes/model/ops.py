"""The element-wise steps between the products of a layer: norm, rotation and gate.

On a CPU in bf16 they are bound by memory, so each makes few passes over few bytes. Elsewhere they
are torch's own operations. Costs of the alternatives:
docs/log/speed.md#2026-11-24-our-own-forward-pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import rms_norm, silu

from tamis.probes.attention.linear_kernels import Product, can_fuse

_EPS_SHARE = 2.0**-12
"""The largest share of a squared norm at which `eps` is ignored: an eighth of bf16's step."""


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


def swiglu(states: Tensor, gate: Product, up: Product) -> Tensor:
    """SwiGLU (Shazeer 2020, arXiv 2002.05202, §2): `silu(gate(x)) * up(x)`, `[N, D]` to `[N, F]`.

    Where products can be fused, both steps happen while a tile is in cache.
    """
    if can_fuse(states):
        return up.multiply(states, gate.silu(states))
    return silu(gate(states), inplace=True).mul_(up(states))
