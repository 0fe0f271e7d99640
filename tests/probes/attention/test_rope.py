"""Rotation taken off: what the layer's own projection gave, before its position was put on."""

from __future__ import annotations

import pytest
import torch

from tamis.probes.attention.rope import remove_rotation
from tamis.probes.prompt import PassageTokens, Prompt, QuestionTokens
from tamis.probes.signal import Want
from tests.probes import tiny
from tests.probes.tiny import one_thread as one_thread


@pytest.mark.parametrize("kind", tiny.ARCHITECTURES)
def test_removing_rotation_gives_the_output_of_the_key_projection(kind):
    """Layer 0 is exact: its input is the embedding of the token, wherever it stands."""
    proxy = tiny.proxy(kind)
    ids = tuple(tiny.ids(30))
    (kept,) = proxy.compute_kv(
        [Prompt(PassageTokens(ids, 0, ()), QuestionTokens((), 0))], Want((0, 1))
    )
    head = len(proxy.layout.opening)
    at = torch.arange(head, head + len(ids))
    found = remove_rotation(proxy.model, 0, kept[0].keys[:, head:], at)
    assert not torch.allclose(found, kept[0].keys[:, head:].float(), atol=1e-2)
    assert torch.allclose(found, _project_keys(proxy.model, ids), atol=1e-4)


def test_scaled_and_partial_rotations_come_off_whole():
    """YaRN scales cos and sin; some models turn only the first channels."""
    proxy = tiny.proxy("llama")
    states = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
    at = torch.arange(3, 8)
    width = 8
    half = at[:, None] * torch.tensor([1.0, 0.3, 0.1, 0.03])
    angles = torch.cat((half, half), -1)
    cos, sin = 1.3 * angles.cos(), 1.3 * angles.sin()
    a, b = states[..., :width].chunk(2, -1)
    turned = states[..., :width] * cos + torch.cat((-b, a), -1) * sin

    class Partial:
        config = proxy.model.config

        def rotary_emb(self, *_):
            return cos[None], sin[None]

    rotated = torch.cat((turned, states[..., width:]), -1)
    assert torch.allclose(remove_rotation(Partial(), 0, rotated, at), states, atol=1e-5)


@torch.inference_mode()
def _project_keys(model, ids):
    layer = model.layers[0]
    embedded = model.embed_tokens(torch.tensor([ids]))
    states = layer.self_attn.k_proj(layer.input_layernorm(embedded))[0]
    heads = states.view(len(ids), tiny.KV_HEADS, -1)
    if hasattr(layer.self_attn, "k_norm"):
        heads = layer.self_attn.k_norm(heads)
    return heads.transpose(0, 1).float()
