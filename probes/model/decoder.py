"""Decoders of Llama's kind as plain modules, read from safetensors without transformers.

To import transformers takes three times as long as to read the weights, and the pass that tamis
makes over such a decoder needs nothing of it, see `forward`. What is here has the parts and the
names of transformers' LlamaModel, Qwen2Model and Qwen3Model: `hosted.adopted` turns it into one,
around the same weights, when somebody wants to call it.

A folder whose configuration says anything that is not known here is left to transformers, whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

HIDDEN_ACT = "silu"
_SIZES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
    "vocab_size",
)
_MODEL_TYPES = frozenset({"llama", "qwen2", "qwen3"})
_EXPLICIT_HEAD_SIZE = frozenset({"qwen3"})
"""Kinds whose heads, where no size is given, do not share the width out among them."""
# what would make another model of it, and the values that do not
_SUPPORTED_VALUES: Mapping[str, tuple[Any, ...]] = {
    "hidden_act": (HIDDEN_ACT,),
    "use_sliding_window": (None, False),
    "rope_scaling": (None,),
    "partial_rotary_factor": (None, 1.0),
    "quantization_config": (None,),
    "is_causal": (None, True),
    "use_bidirectional_attention": (None, False),
    "attn_logit_softcapping": (None,),
    "pretraining_tp": (None, 1),
}


class DecoderConfig:
    """What a `config.json` says, by name; a name that it does not hold is an AttributeError."""

    def __init__(self, said: Mapping[str, Any]) -> None:
        self._said = dict(said)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_said"][name]
        except KeyError:
            raise AttributeError(f"the configuration says nothing of {name}") from None

    def is_on(self, name: str) -> bool:
        """Whether a switch is on; one that is not named is off."""
        return bool(self._said.get(name))

    def to_dict(self) -> dict[str, Any]:
        """All of it."""
        return dict(self._said)

    @property
    def head_size(self) -> int:
        """Channels of a head."""
        given = self._said.get("head_dim")
        return int(given or self.hidden_size // self.num_attention_heads)

    @property
    def rope_theta(self) -> float | None:
        """The base of the rotary angles, where they are turned plainly (RoPE, §3.2.2)."""
        rope = self._said.get("rope_parameters") or {}
        if not set(rope) <= {"rope_theta", "rope_type"} or rope.get("rope_type") not in (
            None,
            "default",
        ):
            return None
        theta = rope.get("rope_theta", self._said.get("rope_theta"))
        return float(theta) if isinstance(theta, int | float) else None

    @property
    def is_supported(self) -> bool:
        """Whether a decoder of this configuration is one that is known here, in every part."""
        said, kinds = self._said, self._said.get("layer_types")
        eps, size = said.get("rms_norm_eps"), said.get("head_dim")
        return (
            said.get("model_type") in _MODEL_TYPES
            and all(_is_positive_int(said.get(name)) for name in _SIZES)
            and (_is_positive_int(size) or (size is None and said["model_type"] not in _EXPLICIT_HEAD_SIZE))
            and isinstance(eps, float)
            and eps > 0
            and all(said.get(name) in values for name, values in _SUPPORTED_VALUES.items())
            and (kinds is None or kinds == ["full_attention"] * said["num_hidden_layers"])
            and self.rope_theta is not None
        )


def _is_positive_int(value: Any) -> bool:
    return type(value) is int and value > 0


class Rotary(nn.Module):
    """The angles of rotary positions (Su et al. 2021, arXiv 2104.09864, §3.4), computed in fp32."""

    inv_freq: Tensor

    def __init__(self, size: int, theta: float) -> None:
        super().__init__()
        steps = torch.arange(0, size, 2, dtype=torch.int64).float() / size
        self.register_buffer("inv_freq", 1.0 / (theta**steps), persistent=False)

    def forward(self, like: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine for positions `[B, N]`: each `[B, N, d]`, in the dtype of `like`."""
        places = position_ids[:, None, :].float()
        rates = self.inv_freq[None, :, None].float().expand(len(places), -1, 1)
        half = (rates @ places).transpose(1, 2)
        angles = torch.cat((half, half), -1)
        return angles.cos().to(like.dtype), angles.sin().to(like.dtype)


class Norm(nn.Module):
    """The weight and epsilon of a root mean square normalisation."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.variance_epsilon = eps


class Attention(nn.Module):
    """The projections of an attention layer, and how it is scaled."""

    sliding_window = None

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.head_dim = config.head_size
        self.scaling = self.head_dim**-0.5
        wide, narrow = (
            count * self.head_dim
            for count in (config.num_attention_heads, config.num_key_value_heads)
        )
        whole = config.is_on("attention_bias")
        biased = whole or config.model_type == "qwen2"
        self.q_proj = nn.Linear(config.hidden_size, wide, biased)
        self.k_proj = nn.Linear(config.hidden_size, narrow, biased)
        self.v_proj = nn.Linear(config.hidden_size, narrow, biased)
        self.o_proj = nn.Linear(wide, config.hidden_size, whole)
        if config.model_type == "qwen3":
            self.q_norm = Norm(self.head_dim, config.rms_norm_eps)
            self.k_norm = Norm(self.head_dim, config.rms_norm_eps)


class GatedMlp(nn.Module):
    """The projections of a gated feed-forward layer."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        inner, outer = config.intermediate_size, config.hidden_size
        self.gate_proj = nn.Linear(outer, inner, config.is_on("mlp_bias"))
        self.up_proj = nn.Linear(outer, inner, config.is_on("mlp_bias"))
        self.down_proj = nn.Linear(inner, outer, config.is_on("mlp_bias"))


class DecoderLayer(nn.Module):
    """One layer of a decoder."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = GatedMlp(config)
        self.input_layernorm = Norm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = Norm(config.hidden_size, config.rms_norm_eps)


class Decoder(nn.Module):
    """The first layers of a decoder without its head; `forward.Forward` runs it."""

    def __init__(self, config: DecoderConfig) -> None:
        """On torch's meta device: shapes and no weights."""
        super().__init__()
        self.config = config
        with torch.device("meta"):
            # not drawn, as nn.Embedding would: that imports torch's compiler
            table = torch.empty(config.vocab_size, config.hidden_size)
            self.embed_tokens = nn.Embedding(len(table), table.shape[1], _weight=table)
            self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.num_hidden_layers))
            self.norm = Norm(config.hidden_size, config.rms_norm_eps)
        self.rotary_emb = Rotary(config.head_size, config.rope_theta or 0.0)


def read_config(folder: Path) -> DecoderConfig | None:
    """What a folder's `config.json` says, if it is of a decoder that is known here, else None."""
    try:
        config = DecoderConfig(json.loads((folder / "config.json").read_text("utf-8")))
        return config if config.is_supported else None
    except Exception:  # not JSON, no object, values of any kind: transformers says what is wrong
        return None


def read_decoder(folder: Path, config: DecoderConfig, layers: int, dtype: torch.dtype) -> Decoder | None:
    """The first layers of the decoder in a folder; None if its first layer has other parts, too.

    Args:
        config: of the whole model, from `read_config`.
    """
    try:
        model = Decoder(DecoderConfig({**config.to_dict(), "num_hidden_layers": layers}))
        wanted = model.state_dict()
        with ExitStack() as files:
            stored = _stored_tensors(folder, files)
            if any(name.startswith("layers.0.") and name not in wanted for name in stored):
                return None
            weights = {
                name: _check_tensor(stored[name].get_tensor(), like).to(dtype)
                for name, like in wanted.items()
            }
    except Exception:  # sizes that are none, files that are torn: transformers says what is wrong
        return None
    model.load_state_dict(weights, assign=True)
    return model


@dataclass(frozen=True, slots=True)
class _StoredTensor:
    """A tensor in an open file."""

    file: Any
    name: str

    def get_tensor(self) -> Tensor:
        found: Tensor = self.file.get_tensor(self.name)
        return found


def _stored_tensors(folder: Path, files: ExitStack) -> dict[str, _StoredTensor]:
    """The tensors of a folder by their names in a model without a head; as transformers looks."""
    paths = {folder / "model.safetensors"}
    if not min(paths).is_file():
        index = json.loads((folder / "model.safetensors.index.json").read_text("utf-8"))
        paths = {folder / name for name in index["weight_map"].values()}
    found: dict[str, _StoredTensor] = {}
    for path in sorted(paths):
        file = files.enter_context(safe_open(path, "pt"))
        for name in file.keys():
            if found.setdefault(name.removeprefix("model."), _StoredTensor(file, name)).name != name:
                raise ValueError(f"{name} is there twice")
    return found


def _check_tensor(found: Tensor, like: Tensor) -> Tensor:
    """A tensor of that shape. ValueError: it has another, or no numbers with a fraction."""
    if found.shape != like.shape or not found.is_floating_point():
        raise ValueError(f"{tuple(found.shape)} in {found.dtype}, not {tuple(like.shape)}")
    return found
