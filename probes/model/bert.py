"""A BERT-like encoder read from safetensors, without importing transformers.

Devlin et al. 2019 (arXiv 1810.04805, §3): learnt positions, attention in both directions, layer
norms after each addition, GELU. Products run in oneDNN's layout where bf16 is fast.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import embedding, gelu, layer_norm, normalize, scaled_dot_product_attention

from tamis.probes.attention.linear_kernels import Product, can_fuse, pack_weight
from tamis.probes.errors import BadModelFile

_EXPECTED = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}


@dataclass(frozen=True, slots=True)
class BertShape:
    """The sizes that a BERT's `config.json` states."""

    layers: int
    heads: int
    hidden: int
    positions: int
    eps: float


def read_shape(folder: Path) -> BertShape:
    """The shape of the encoder in a folder.

    Raises:
        BadModelFile: it is not a BERT with GELU and learnt positions.
    """
    config = json.loads((folder / "config.json").read_text("utf-8"))
    for name, value in _EXPECTED.items():
        if config.get(name, value) != value:
            raise BadModelFile(
                f"{folder} has the {name} {config[name]!r} and {value!r} is needed; give a BERT "
                "such as all-MiniLM-L6-v2"
            )
    return BertShape(
        config["num_hidden_layers"],
        config["num_attention_heads"],
        config["hidden_size"],
        config["max_position_embeddings"],
        config["layer_norm_eps"],
    )


class Bert:
    """The encoder: token ids to states.

    Attributes:
        shape: its sizes. device, dtype: of its weights.
    """

    def __init__(
        self,
        shape: BertShape,
        weights: Mapping[str, Tensor],
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        """From the tensors of a checkpoint, by their usual names.

        Raises:
            KeyError: one is missing.
        """
        self.shape, self.dtype, self.device = shape, dtype, torch.device(device)

        def get(name: str) -> Tensor:
            return weights[name].to(self.device, dtype)

        self._words = get("embeddings.word_embeddings.weight")
        segments = get("embeddings.token_type_embeddings.weight")
        # the first segment's vector belongs to every position; a second text adds the difference
        self._positions = get("embeddings.position_embeddings.weight") + segments[0]
        self._second = segments[-1] - segments[0]
        self._norm = _Norm(get, "embeddings.LayerNorm", shape.eps)
        self._layers = [_Layer(get, n, shape) for n in range(shape.layers)]

    @classmethod
    def from_folder(
        cls, folder: Path, dtype: torch.dtype, device: str | torch.device = "cpu"
    ) -> Bert:
        """Reads `config.json` and `model.safetensors`.

        Raises:
            BadModelFile: it is another kind of model.
        """
        shape = read_shape(folder)
        found = load_file(folder / "model.safetensors")
        weights = {name.removeprefix("bert."): tensor for name, tensor in found.items()}
        return cls(shape, weights, dtype, device)

    def __call__(self, ids: Tensor, mask: Tensor, second: Tensor | None = None) -> Tensor:
        """States of the last layer, `[B, L, D]`, from token ids `[B, L]`.

        Args:
            mask: `[B, L]`, false for padding, which no token attends to.
            second: `[B, L]`, true for the tokens of the second of two texts; None for one text.
        """
        *_, states = self.layer_states(ids, mask, second)
        return states

    def layer_states(
        self, ids: Tensor, mask: Tensor, second: Tensor | None = None
    ) -> Iterator[Tensor]:
        """The states of the embeddings, then of each layer: `[B, L, D]` each; as `__call__`."""
        embedded = embedding(ids, self._words) + self._positions[: ids.shape[1]]
        if second is not None:
            embedded = embedded + second[..., None] * self._second
        states = self._norm(embedded)
        visible = None if bool(mask.all()) else mask[:, None, None, :]
        yield states
        for layer in self._layers:
            states = layer(states, visible)
            yield states

    @staticmethod
    def project(means: Tensor) -> Tensor:
        """Vectors of unit length from means of states, `[..., D]` each."""
        return normalize(means, dim=-1)

    def diagonal(self, states: Tensor, mask: Tensor, layer: int, head: int) -> Tensor:
        """The attention of a head's tokens to themselves, `[B, L]` fp32.

        Args:
            states: those that the layer is given, `[B, L, D]`.
        """
        return self._layers[layer].diagonal(states, mask, head)


class _Norm:
    def __init__(self, get: Any, name: str, eps: float) -> None:
        self.weight, self.bias, self.eps = get(f"{name}.weight"), get(f"{name}.bias"), eps

    def __call__(self, states: Tensor) -> Tensor:
        return layer_norm(states, self.weight.shape, self.weight, self.bias, self.eps)


class _Layer:
    def __init__(self, get: Any, number: int, shape: BertShape) -> None:
        name = f"encoder.layer.{number}"
        own = f"{name}.attention.self"
        parts = ("query", "key", "value")
        self.heads = shape.heads
        self.attend_in = Product(
            pack_weight(torch.cat([get(f"{own}.{part}.weight") for part in parts])),
            torch.cat([get(f"{own}.{part}.bias") for part in parts]),
        )
        self.attend_out = self._product(get, f"{name}.attention.output.dense")
        self.grow = self._product(get, f"{name}.intermediate.dense")
        self.shrink = self._product(get, f"{name}.output.dense")
        self.attention_norm = _Norm(get, f"{name}.attention.output.LayerNorm", shape.eps)
        self.norm = _Norm(get, f"{name}.output.LayerNorm", shape.eps)

    @staticmethod
    def _product(get: Any, name: str) -> Product:
        return Product(pack_weight(get(f"{name}.weight")), get(f"{name}.bias"))

    def diagonal(self, states: Tensor, mask: Tensor, head: int) -> Tensor:
        query, key, _ = self._split(states).float()
        logits: Tensor = query[:, head] @ key[:, head].transpose(1, 2) * query.shape[-1] ** -0.5
        weights = logits.masked_fill(~mask[:, None], -torch.inf).softmax(-1)
        own: Tensor = weights.diagonal(dim1=1, dim2=2)
        return own

    def _split(self, states: Tensor) -> Tensor:
        """Query, key and value: `[3, B, H, L, d]`."""
        batch, length, size = states.shape
        split = self.attend_in(states).view(batch, length, 3, self.heads, size // self.heads)
        return split.permute(2, 0, 3, 1, 4)

    def __call__(self, states: Tensor, visible: Tensor | None) -> Tensor:
        batch, length, size = states.shape
        query, key, value = self._split(states)
        mixed = scaled_dot_product_attention(query, key, value, attn_mask=visible)
        mixed = mixed.transpose(1, 2).reshape(batch, length, size)
        states = self.attention_norm(self.attend_out(mixed) + states)
        grown = self.grow.gelu(states) if can_fuse(states) else gelu(self.grow(states))
        return self.norm(self.shrink(grown) + states)
