"""The three small steps between the products of a layer: norm, rotation, gate.

On a CPU in bf16 each is written for what the processor waits for, which is memory: few passes over
few bytes. What each way costs: docs/log/speed.md. Elsewhere they are torch's own operations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import rms_norm, silu

from tamis.probes.attention.linear_kernels import Product, can_fuse

_EPS_SHARE = 2.0**-12
"""How much of a squared norm `eps` may be before it has to be added: an eighth of bf16's step."""


class RmsNorm:
    """Root mean square normalisation (Zhang and Sennrich 2019, arXiv 1910.07467, §4).

    On a CPU in bf16 by the operation that torch has for weight normalisation: it scales every row
    to a given length in one pass over memory, four times as fast as `rms_norm`. It knows no `eps`,
    so rows for which that matters are left to `rms_norm`.
    """

    def __init__(self, weight: Tensor, eps: float) -> None:
        self.weight, self.eps = weight, eps
        self.min_squared_norm = eps * weight.numel() / _EPS_SHARE
        root = math.sqrt(weight.numel())
        self._length = weight.new_full((1, 1), root)
        # the length is rounded to the dtype; what that leaves goes into the weight
        self._adjusted_weight = (weight.detach().float() * (root / self._length.float().view(()))).to(weight)

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
    """Rotary positions (RoPE, Su et al. 2021, arXiv 2104.09864, §3.4) of a pass's tokens.

    Attributes:
        cos, sin, back: of the angles, and of the angles back: `[N, 1, d/2]`.
    """

    cos: Tensor
    sin: Tensor
    neg_sin: Tensor

    @classmethod
    def from_angles(cls, cos: Tensor, sin: Tensor) -> Rotation:
        """From `[N, d]` as transformers makes them: both halves of the channels alike."""
        half = cos.shape[-1] // 2
        cos, sin = cos[:, None, :half], sin[:, None, :half]
        return cls(cos, sin, -sin)

    def select(self, tile: slice) -> Rotation:
        """Of some of the tokens."""
        return Rotation(self.cos[tile], self.sin[tile], self.neg_sin[tile])

    def __call__(self, states: Tensor, out: Tensor) -> None:
        """Turns `[N, heads, d]` into `out`, of the same shape: four passes over half of it each."""
        half = self.cos.shape[-1]
        a, b = states[..., :half], states[..., half:]
        left, right = out[..., :half], out[..., half:]
        torch.mul(a, self.cos, out=left).addcmul_(b, self.neg_sin)
        torch.mul(b, self.cos, out=right).addcmul_(a, self.sin)


def swiglu(states: Tensor, gate: Product, up: Product) -> Tensor:
    """SwiGLU (Shazeer 2020, arXiv 2002.05202, §2): `silu(gate(x)) * up(x)`, `[N, D]` to `[N, F]`.

    Where products take what follows them along, both steps happen while a tile is in cache.
    """
    if can_fuse(states):
        return up.multiply(states, gate.silu(states))
    return silu(gate(states), inplace=True).mul_(up(states))
