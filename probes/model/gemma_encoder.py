"""A sentence encoder of Gemma 3's layers, read from safetensors, without importing transformers.

Gemma 3 (arXiv 2503.19786, §2) with attention in both directions, as in EmbeddingGemma (arXiv
2509.20354, §2.2): norms before and after attention and feed-forward, of query and key too, one
rotation for layers with a window and one for the others, a gated feed-forward with GELU. The mean
of a text's token states is multiplied by one matrix, the product of the two that were published.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import (
    embedding,
    gelu,
    linear,
    normalize,
    rms_norm,
    scaled_dot_product_attention,
)

from tamis.probes.attention.linear_kernels import Product, can_fuse, pack_weight
from tamis.probes.errors import BadModelFile
from tamis.probes.model.bert import BertShape

MODEL_TYPE = "gemma3_text"
PROJECTION = "projection.weight"
"""The name of the matrix behind the mean, `[D, D]`, in the folder's safetensors."""
_EXPECTED = {"hidden_activation": "gelu_pytorch_tanh", "use_bidirectional_attention": True}
_LOCAL = "sliding_attention"


class GemmaEncoder:
    """Token ids to states, and the mean of states to a vector.

    Attributes:
        shape: its sizes; inputs are so short that each token of a local layer sees all others: its
            window is as wide on both sides together.
        device, dtype: of its weights.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        weights: Mapping[str, Tensor],
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        """From a `config.json` and the tensors of a checkpoint, by their usual names.

        Raises:
            BadModelFile: it is another kind of model. KeyError: a tensor is missing.
        """
        for name, value in _EXPECTED.items():
            if config.get(name) != value:
                raise BadModelFile(
                    f"the encoder has the {name} {config.get(name)!r} and {value!r} is needed; "
                    "give one such as EmbeddingGemma"
                )
        self.dtype, self.device = dtype, torch.device(device)
        self.shape = BertShape(
            config["num_hidden_layers"],
            config["num_attention_heads"],
            config["hidden_size"],
            min(config["sliding_window"] // 2 + 1, config["max_position_embeddings"]),
            config["rms_norm_eps"],
        )

        def get(name: str) -> Tensor:
            return weights[name].to(self.device, dtype)

        self._words = get("embed_tokens.weight")
        self._scale = torch.tensor(self.shape.hidden**0.5, dtype=dtype)
        self._norm = _Norm(get, "norm", self.shape.eps)
        self._layers = [_Layer(get, n, config) for n in range(self.shape.layers)]
        self._is_local = [kind == _LOCAL for kind in config["layer_types"]]
        self._angles = [
            _angles(config["head_dim"], config[theta], self.shape.positions).to(self.device)
            for theta in ("rope_theta", "rope_local_base_freq")
        ]
        self._projection = weights[PROJECTION].float()

    @classmethod
    def from_folder(
        cls, folder: Path, dtype: torch.dtype, device: str | torch.device = "cpu"
    ) -> GemmaEncoder:
        """Reads `config.json` and `model.safetensors`; raises as the constructor."""
        config = json.loads((folder / "config.json").read_text("utf-8"))
        return cls(config, load_file(folder / "model.safetensors"), dtype, device)

    def __call__(self, ids: Tensor, mask: Tensor) -> Tensor:
        """States of the last layer, `[B, L, D]`, from token ids `[B, L]`.

        Args:
            mask: `[B, L]`, false for padding, which no token attends to.
        """
        *_, states = self.layer_states(ids, mask)
        return states

    def layer_states(self, ids: Tensor, mask: Tensor) -> Iterator[Tensor]:
        """The states of the embeddings, then of each layer: `[B, L, D]` each; as `__call__`.

        Those of the last layer are normalised, as the published model has them.
        """
        states = embedding(ids, self._words) * self._scale
        visible = None if bool(mask.all()) else mask[:, None, None, :]
        rotations = [
            (angles.cos().to(self.dtype), angles.sin().to(self.dtype))
            for angles in (every[: ids.shape[1]] for every in self._angles)
        ]
        yield states
        for layer, is_local in zip(self._layers, self._is_local, strict=True):
            states = layer(states, visible, *rotations[is_local])
            yield self._norm(states) if layer is self._layers[-1] else states

    def project(self, means: Tensor) -> Tensor:
        """Vectors of unit length from means of states, `[..., D]` each, fp32 on the CPU."""
        return normalize(linear(means, self._projection), dim=-1)


class _Norm:
    """Root mean square normalisation whose weights are stored less 1."""

    def __init__(self, get: Any, name: str, eps: float) -> None:
        self.weight, self.eps = 1 + get(f"{name}.weight").float(), eps

    def __call__(self, states: Tensor) -> Tensor:
        normed = rms_norm(states.float(), self.weight.shape, self.weight, self.eps)
        return normed.to(states.dtype)


class _Layer:
    def __init__(self, get: Any, number: int, config: Mapping[str, Any]) -> None:
        name, eps = f"layers.{number}", config["rms_norm_eps"]
        self.heads, self.kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
        self.size, self.scale = config["head_dim"], config["query_pre_attn_scalar"] ** -0.5

        def product(part: str) -> Product:
            return Product(pack_weight(get(f"{name}.{part}_proj.weight")), None)

        parts = [get(f"{name}.self_attn.{part}_proj.weight") for part in "qkv"]
        self.attend_in = Product(pack_weight(torch.cat(parts)), None)
        self.attend_out = product("self_attn.o")
        self.gate, self.up, self.down = (product(f"mlp.{part}") for part in ("gate", "up", "down"))
        self.q_norm, self.k_norm = (_Norm(get, f"{name}.self_attn.{p}_norm", eps) for p in "qk")
        self.attention_norm, self.attended_norm, self.feed_norm, self.fed_norm = (
            _Norm(get, f"{name}.{place}_layernorm", eps)
            for place in ("input", "post_attention", "pre_feedforward", "post_feedforward")
        )

    def __call__(self, states: Tensor, visible: Tensor | None, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, _ = states.shape
        joined = self.attend_in(self.attention_norm(states)).view(batch, length, -1, self.size)
        query, key, value = torch.split(joined, [self.heads, self.kv_heads, self.kv_heads], 2)
        mixed = scaled_dot_product_attention(
            _rotate(self.q_norm(query).transpose(1, 2), cos, sin),
            _rotate(self.k_norm(key).transpose(1, 2), cos, sin),
            value.transpose(1, 2),
            attn_mask=visible,
            scale=self.scale,
            enable_gqa=True,
        )
        mixed = mixed.transpose(1, 2).reshape(batch, length, -1)
        states = states + self.attended_norm(self.attend_out(mixed))
        fed = self.feed_norm(states)
        if can_fuse(fed):
            grown = self.up.multiply(fed, self.gate.gelu(fed, "tanh"))
        else:
            grown = gelu(self.gate(fed), approximate="tanh") * self.up(fed)
        return states + self.fed_norm(self.down(grown))


def _angles(size: int, base: float, positions: int) -> Tensor:
    """The angle of each position and half-dimension, twice side by side: `[positions, d]`."""
    powers = torch.arange(0, size, 2, dtype=torch.float32) / size
    angles = torch.arange(positions, dtype=torch.float32)[:, None] * base**-powers
    return torch.cat((angles, angles), 1)


def _rotate(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates `[B, H, L, d]` by position (RoPE, arXiv 2104.09864, §3.4)."""
    a, b = states.chunk(2, -1)
    return states * cos + torch.cat((-b, a), -1) * sin
