"""Rotary positions taken off again: what a key or a query is, wherever it stands.

Keys and queries are recorded after rotation (RoPE, Su et al. 2021, arXiv 2104.09864, §3.4). For one
passage asked by one question that is right. Among many passages, the distance between a question
and the places of words in them says nothing: keys and queries without it are compared.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def remove_rotation(model: Any, layer: int, states: Tensor, positions: Tensor) -> Tensor:
    """States as they were before rotation, fp32: `[H, N, d]` to `[H, N, d]`.

    Rotation by cos and sin of one angle per pair of channels is undone by the opposite angle, and
    by the square of the factor that some models scale cos and sin with (YaRN).

    Args:
        model: a decoder with one `rotary_emb`, a proxy's body.
        layer: its layer; models with sliding windows turn their layers differently.
        positions: of the N tokens, as the model was given them.
    """
    cos, sin = _angles(model, layer, states, positions)
    width = cos.shape[-1]  # some models turn only the first channels
    turned, rest = states.float()[..., :width], states.float()[..., width:]
    a, b = turned.chunk(2, dim=-1)
    back = turned * cos - torch.cat((-b, a), dim=-1) * sin
    return torch.cat((back / (cos * cos + sin * sin), rest), dim=-1)


def _angles(model: Any, layer: int, states: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    kinds = getattr(model.config, "layer_types", None)
    kind = kinds[layer] if kinds else ""
    # Gemma 3: one set of angles for each kind of layer
    extra = (kind,) if hasattr(model.rotary_emb, f"{kind}_inv_freq") else ()
    cos, sin = model.rotary_emb(states.float(), positions[None].to(states.device), *extra)
    return cos[0].float(), sin[0].float()
