"""What published methods do to attention that the product does not: other positions, other rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tamis.probes.attention.rope import angles


def rotate(
    model: Any, layer: int, states: Tensor, positions: Tensor, base_factor: float = 1.0
) -> Tensor:
    """States `[H, N, d]` rotated to their positions, fp32; the inverse of `remove_rotation`.

    Args:
        base_factor: of the base of the angles (RoPE, §3.2.2): above 1, far tokens seem nearer.
    """
    cos, sin = angles(model, layer, states, positions)
    if base_factor != 1:
        cos, sin = _with_base(model, layer, positions, base_factor)
    width = cos.shape[-1]
    own, rest = states.float()[..., :width], states.float()[..., width:]
    a, b = own.chunk(2, dim=-1)
    return torch.cat((own * cos + torch.cat((-b, a), dim=-1) * sin, rest), dim=-1)


def _with_base(
    model: Any, layer: int, positions: Tensor, base_factor: float
) -> tuple[Tensor, Tensor]:
    """Cosine and sine where the base θ is multiplied: each rate θ^(-2i/d) by factor^(-2i/d)."""
    kinds = getattr(model.config, "layer_types", None)
    name = f"{kinds[layer] if kinds else ''}_inv_freq"
    own = getattr(model.rotary_emb, name, None)
    rates = (model.rotary_emb.inv_freq if own is None else own).float()
    steps = torch.arange(len(rates), device=rates.device) / len(rates)
    half = positions.to(rates.device)[:, None].float() * (rates * base_factor**-steps)
    turned = torch.cat((half, half), -1)
    return turned.cos(), turned.sin()


def normalise_rows(weights: Tensor) -> Tensor:
    """Rows `[..., N]` of weights from 0 on, each divided by its sum; rows of zeros stay."""
    return weights / weights.sum(-1, keepdim=True).clamp_min(1e-30)
