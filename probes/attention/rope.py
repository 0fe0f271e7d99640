"""Removing rotary positions from keys and queries.

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
    cos, sin = angles(model, layer, states, positions)
    width = cos.shape[-1]  # some models rotate only the first channels
    rotated, rest = states.float()[..., :width], states.float()[..., width:]
    a, b = rotated.chunk(2, dim=-1)
    original = rotated * cos - torch.cat((-b, a), dim=-1) * sin
    return torch.cat((original / (cos * cos + sin * sin), rest), dim=-1)


def angles(model: Any, layer: int, states: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the angles of each position, fp32: `[N, d]`."""
    kinds = getattr(model.config, "layer_types", None)
    kind = kinds[layer] if kinds else ""
    # Gemma 3: one set of angles for each kind of layer
    extra = (kind,) if hasattr(model.rotary_emb, f"{kind}_inv_freq") else ()
    cos, sin = model.rotary_emb(states.float(), positions[None].to(states.device), *extra)
    return cos[0].float(), sin[0].float()
