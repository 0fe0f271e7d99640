"""Removing rotary positions from keys and queries, and applying them, with another base if wanted.

Keys and queries are recorded after rotation (RoPE, Su et al. 2021, arXiv 2104.09864, §3.4). For one
question about one passage that is right. Across many passages, the distance between the question
and a word's position is meaningless, so keys and queries are compared without rotation.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def remove_rotation(model: Any, layer: int, states: Tensor, positions: Tensor) -> Tensor:
    """The states before rotation, fp32: `[H, N, d]` to `[H, N, d]`.

    The rotation of each pair of channels is undone by rotating back and dividing by cos² + sin²,
    which is not 1 where a model scales cos and sin (YaRN).

    Args:
        model: a decoder with one `rotary_emb`, such as a proxy's body.
        layer: index of the layer; models with sliding windows rotate some layers differently.
        positions: of the N tokens, as the model was given them.
    """
    cos, sin = _angles(model, layer, states, positions)
    width = cos.shape[-1]  # some models rotate only the first channels
    rotated, rest = states.float()[..., :width], states.float()[..., width:]
    a, b = rotated.chunk(2, dim=-1)
    original = rotated * cos - torch.cat((-b, a), dim=-1) * sin
    return torch.cat((original / (cos * cos + sin * sin), rest), dim=-1)


def rotate(
    model: Any, layer: int, states: Tensor, positions: Tensor, base_factor: float = 1.0
) -> Tensor:
    """States `[H, N, d]` rotated to their positions, fp32; the inverse of `remove_rotation`.

    Args:
        base_factor: of the base of the angles (RoPE, §3.2.2): above 1, far tokens seem nearer.
    """
    cos, sin = _angles(model, layer, states, positions)
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
    angles = torch.cat((half, half), -1)
    return angles.cos(), angles.sin()


def _angles(model: Any, layer: int, states: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    kinds = getattr(model.config, "layer_types", None)
    kind = kinds[layer] if kinds else ""
    # Gemma 3: one set of angles for each kind of layer
    extra = (kind,) if hasattr(model.rotary_emb, f"{kind}_inv_freq") else ()
    cos, sin = model.rotary_emb(states.float(), positions[None].to(states.device), *extra)
    return cos[0].float(), sin[0].float()
