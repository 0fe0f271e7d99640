"""Llama-like decoders as plain modules, read from safetensors without importing transformers.

Importing transformers takes three times as long as reading the weights, and the forward pass of
tamis over such a decoder does not need it, see `forward`. The classes here have the parts and the
parameter names of transformers' LlamaModel, Qwen2Model and Qwen3Model, so that
`hf_backend.adopt_decoder` can wrap the same weights as one of these when a caller needs it.

A folder whose configuration has any setting that is unknown here is left to transformers entirely.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
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
"""Model types whose head size must be given: it is not the hidden size divided by the heads."""
# settings that would change the computation, and the values with which they do not
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
    """The entries of a `config.json` as attributes; a missing entry is an AttributeError."""

    def __init__(self, entries: Mapping[str, Any]) -> None:
        self._entries = dict(entries)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_entries"][name]
        except KeyError:
            raise AttributeError(f"the configuration says nothing of {name}") from None

    def is_on(self, name: str) -> bool:
        """Whether a boolean entry is true; a missing one is false."""
        return bool(self._entries.get(name))

    def to_dict(self) -> dict[str, Any]:
        """A copy of all entries."""
        return dict(self._entries)

    @property
    def head_size(self) -> int:
        """The number of channels of a head."""
        given = self._entries.get("head_dim")
        return int(given or self.hidden_size // self.num_attention_heads)

    @property
    def rope_theta(self) -> float | None:
        """The base of the rotary angles (RoPE, §3.2.2); None for any scaled variant."""
        rope = self._entries.get("rope_parameters") or {}
        if not set(rope) <= {"rope_theta", "rope_type"} or rope.get("rope_type") not in (
            None,
            "default",
        ):
            return None
        theta = rope.get("rope_theta", self._entries.get("rope_theta"))
        return float(theta) if isinstance(theta, int | float) else None

    @property
    def is_supported(self) -> bool:
        """Whether the classes here implement every setting of this configuration."""
        entries, kinds = self._entries, self._entries.get("layer_types")
        eps, size = entries.get("rms_norm_eps"), entries.get("head_dim")
        return (
            entries.get("model_type") in _MODEL_TYPES
            and all(_is_positive_int(entries.get(name)) for name in _SIZES)
            and (
                _is_positive_int(size)
                or (size is None and entries["model_type"] not in _EXPLICIT_HEAD_SIZE)
            )
            and isinstance(eps, float)
            and eps > 0
            and all(entries.get(name) in values for name, values in _SUPPORTED_VALUES.items())
            and (kinds is None or kinds == ["full_attention"] * entries["num_hidden_layers"])
            and self.rope_theta is not None
        )


def _is_positive_int(value: Any) -> bool:
    return type(value) is int and value > 0


class Rotary(nn.Module):
    """Cosine and sine of rotary positions (Su et al. 2021, arXiv 2104.09864, §3.4), in fp32."""

    inv_freq: Tensor

    def __init__(self, size: int, theta: float) -> None:
        super().__init__()
        steps = torch.arange(0, size, 2, dtype=torch.int64).float() / size
        self.register_buffer("inv_freq", 1.0 / (theta**steps), persistent=False)

    def forward(self, like: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine for positions `[B, N]`: each `[B, N, d]`, in the dtype of `like`."""
        positions = position_ids[:, None, :].float()
        rates = self.inv_freq[None, :, None].float().expand(len(positions), -1, 1)
        half = (rates @ positions).transpose(1, 2)
        angles = torch.cat((half, half), -1)
        return angles.cos().to(like.dtype), angles.sin().to(like.dtype)


class Norm(nn.Module):
    """The weight and epsilon of a root mean square normalisation; `forward.RmsNorm` computes it."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.variance_epsilon = eps


class Attention(nn.Module):
    """The projections of an attention layer, and the scale of its logits."""

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
    """The first layers of a decoder without its language-model head; `forward.Forward` runs it."""

    def __init__(self, config: DecoderConfig) -> None:
        """Creates the modules on torch's meta device: shapes without weights."""
        super().__init__()
        self.config = config
        with torch.device("meta"):
            # given as a tensor: the random initialisation of nn.Embedding imports torch's compiler
            table = torch.empty(config.vocab_size, config.hidden_size)
            self.embed_tokens = nn.Embedding(len(table), table.shape[1], _weight=table)
            self.layers = nn.ModuleList(
                DecoderLayer(config) for _ in range(config.num_hidden_layers)
            )
            self.norm = Norm(config.hidden_size, config.rms_norm_eps)
        self.rotary_emb = Rotary(config.head_size, config.rope_theta or 0.0)


def read_config(folder: Path) -> DecoderConfig | None:
    """The configuration in a folder, or None unless it is a decoder supported here."""
    try:
        config = DecoderConfig(json.loads((folder / "config.json").read_text("utf-8")))
        return config if config.is_supported else None
    except Exception:  # whatever is wrong with the file, transformers reports it
        return None


def read_decoder(
    folder: Path, config: DecoderConfig, layers: int, dtype: torch.dtype
) -> Decoder | None:
    """The first layers of the decoder in a folder, or None if it cannot be read here.

    That is the case if its first layer has parts unknown here, or if a file is damaged, which
    transformers then reports.

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
            weights = {}
            for name, like in wanted.items():
                file, stored_name = stored[name]
                weights[name] = _check_tensor(file.get_tensor(stored_name), like).to(dtype)
    except Exception:  # impossible sizes, torn files: transformers reports them
        return None
    model.load_state_dict(weights, assign=True)
    return model


def _stored_tensors(folder: Path, files: ExitStack) -> dict[str, tuple[Any, str]]:
    """The tensors in a folder by their names in a model without head: open file, and name there."""
    paths = {folder / "model.safetensors"}
    if not min(paths).is_file():
        index = json.loads((folder / "model.safetensors.index.json").read_text("utf-8"))
        paths = {folder / name for name in index["weight_map"].values()}
    found: dict[str, tuple[Any, str]] = {}
    for path in sorted(paths):
        file = files.enter_context(safe_open(path, "pt"))
        for name in file.keys():
            if found.setdefault(name.removeprefix("model."), (file, name))[1] != name:
                raise ValueError(f"{name} is there twice")
    return found


def _check_tensor(found: Tensor, like: Tensor) -> Tensor:
    """The tensor itself.

    Raises:
        ValueError: its shape differs from that of `like`, or it is not floating point.
    """
    if found.shape != like.shape or not found.is_floating_point():
        raise ValueError(f"{tuple(found.shape)} in {found.dtype}, not {tuple(like.shape)}")
    return found
