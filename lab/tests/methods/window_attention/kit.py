"""A random two-layer decoder, and everything that full attention says of it, written out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tamis.probes.card import ModelCard
from tamis.probes.model.decoder import Decoder, DecoderConfig
from tamis.probes.model.proxy import Proxy
from tamis.probes.prompt import Template
from tamis_lab.methods.window_attention.contract import (
    AskedRows,
    Reading,
    WindowAttention,
    WindowShape,
)
from tamis_lab.methods.window_attention.passes import read_window
from tests.scripted import byte_tokenizer

LAYERS, HEADS, KV_HEADS, SIZE, WIDTH = 2, 4, 2, 8, 32
TEMPLATE = Template("short", "ab", "cd", "ef")
PASSAGE, QUESTION, TITLE = "Ann ran. Bob sat.", "Who?", "T"
SPANS = ((0, 8), (9, 17))
THETA = 100.0
SEEDS = range(4)


def proxy(seed: int = 0, layers: int = LAYERS, context: int = 256) -> Proxy:
    """A decoder with weights drawn wide, so that attention is far from uniform."""
    config = DecoderConfig(
        {
            "model_type": "llama",
            "hidden_size": WIDTH,
            "intermediate_size": 48,
            "num_hidden_layers": layers,
            "num_attention_heads": HEADS,
            "num_key_value_heads": KV_HEADS,
            "max_position_embeddings": context,
            "vocab_size": 300,
            "rms_norm_eps": 1e-5,
            "rope_theta": THETA,
            "hidden_act": "silu",
            "tie_word_embeddings": True,
        }
    )
    assert config.is_supported
    model = Decoder(config)
    draw = torch.Generator().manual_seed(seed)
    weights = {
        name: 1 + 0.2 * torch.randn(like.shape, generator=draw)
        if "norm" in name
        else 0.3 * torch.randn(like.shape, generator=draw)
        for name, like in model.state_dict().items()
    }
    model.load_state_dict(weights, assign=True)
    card = ModelCard("two-layers", f"seed {seed}", layers, HEADS)
    return Proxy(model, byte_tokenizer(), card, TEMPLATE)


@dataclass(frozen=True)
class Full:
    """All of one prompt: softmax `[L, H, T, T]`, rotated queries and keys, values, outputs."""

    weights: Tensor
    queries: Tensor
    keys: Tensor
    values: Tensor
    grams: Tensor


@torch.no_grad()
def full_attention(made: Proxy, ids: list[int]) -> Full:
    """A plain forward pass: every weight of every layer at once."""
    body, x = made.body, made.body.embed_tokens.weight[ids]
    kept: dict[str, list[Tensor]] = {name: [] for name in Full.__dataclass_fields__}
    future = torch.ones(len(ids), len(ids)).triu(1).bool()
    for layer in body.layers:
        attn, h = layer.self_attn, norm(x, layer.input_layernorm)
        q, k, v = (
            (h @ part.weight.T).view(len(ids), -1, SIZE).transpose(0, 1)
            for part in (attn.q_proj, attn.k_proj, attn.v_proj)
        )
        q, k = rotated(q) * SIZE**-0.5, rotated(k)
        weights = (q @ spread(k).transpose(1, 2)).masked_fill(future, -torch.inf).softmax(-1)
        out = (weights @ spread(v)).transpose(0, 1).reshape(len(ids), -1)
        by_head = attn.o_proj.weight.view(WIDTH, HEADS, SIZE).transpose(0, 1)
        x = x + out @ attn.o_proj.weight.T
        h = norm(x, layer.post_attention_layernorm)
        gate = torch.nn.functional.silu(h @ layer.mlp.gate_proj.weight.T)
        x = x + (gate * (h @ layer.mlp.up_proj.weight.T)) @ layer.mlp.down_proj.weight.T
        for name, part in zip(kept, (weights, q, k, v, by_head), strict=True):
            kept[name].append(part)
    return Full(**{name: torch.stack(parts) for name, parts in kept.items()})


def norm(x: Tensor, module: torch.nn.Module) -> Tensor:
    return x * (x.square().mean(-1, keepdim=True) + 1e-5).rsqrt() * module.weight


def spread(states: Tensor) -> Tensor:
    """Key heads repeated for the query heads that share them."""
    return states.repeat_interleave(HEADS // KV_HEADS, 0)


def rotated(states: Tensor, theta: float = THETA) -> Tensor:
    """Each pair of channels (i, i + d/2) as a complex number, turned by its position."""
    half = SIZE // 2
    rates = theta ** (-torch.arange(half) / half)
    angles = torch.arange(states.shape[1])[:, None] * rates
    turned = torch.complex(states[..., :half], states[..., half:]) * torch.polar(
        torch.ones_like(angles), angles
    )
    return torch.cat((turned.real, turned.imag), -1)


def ids_of(made: Proxy, question: str) -> list[int]:
    """The whole prompt of the passage and a question."""
    passage = made.layout.passage_tokens(PASSAGE, SPANS, TITLE)
    asked = made.layout.question_tokens(question)
    return [*made.layout.opening, *passage.ids, *asked.ids]


def window(reading: Reading, layers: tuple[int, ...] = (0, 1)) -> WindowAttention:
    """What a reading is given of the passage and its question."""
    made = reading.reader
    passage = made.layout.passage_tokens(PASSAGE, SPANS, TITLE)
    return read_window(made, passage, QUESTION, layers, {"it": reading})["it"]


def hand_made(rows: Tensor, sums: dict[str, object] | None = None, **shape: int) -> WindowAttention:
    """A window of given question rows `[L, H, n, T]`, all of them the question's own.

    The last n tokens are the question's; opening and title are empty unless given.
    """
    n, T = rows.shape[2:]
    asked = AskedRows(rows, 0, torch.ones(n, dtype=torch.bool))
    spans = tuple((i, i + 1) for i in range(T - n))
    whole = WindowShape(
        tuple(range(T - n)), shape.get("opening", 0), shape.get("title", 0), ((n, 0),) * 2, spans
    )
    return WindowAttention(whole, tuple(range(len(rows))), (asked, asked), sums or {})


def causal(layers: int, heads: int, tokens: int, seed: int = 0) -> Tensor:
    """Random causal softmax weights: `[L, H, T, T]`."""
    draw = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(layers, heads, tokens, tokens, generator=draw)
    future = torch.ones(tokens, tokens).triu(1).bool()
    return logits.masked_fill(future, -torch.inf).softmax(-1)
