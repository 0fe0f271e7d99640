"""Loading a decoder from a folder of safetensors, cut to the layers that are read."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from tamis.probes.attention.linear_kernels import cpu_capabilities, multiplies_int8
from tamis.probes.errors import (
    BadInput,
    BadModelFile,
    ProxyMissing,
    ProxyUnsupported,
    wrap_load_errors,
)
from tamis.probes.model.decoder import read_config, read_decoder
from tamis.probes.prompt import TEMPLATES, Template

_DTYPES = {
    **dict.fromkeys(("bf16", "bfloat16"), torch.bfloat16),
    **dict.fromkeys(("fp16", "float16"), torch.float16),
    **dict.fromkeys(("fp32", "float32"), torch.float32),
}
INT8 = "int8"
"""The name of bf16 with the products behind attention in int8."""


def load_folder(
    folder: Path, layers: int | None, dtype: str | torch.dtype, device: str
) -> tuple[Any, Tokenizer, tuple[int, int]]:
    """A model without language-model head, its tokenizer, and (layers, heads) of the whole model.

    Raises:
        BadInput, ProxyMissing, BadModelFile, ProxyUnsupported: as `Proxy.from_folder`.
    """
    if not (folder / "config.json").is_file():
        raise ProxyMissing(
            f"{folder} holds no config.json; give a folder with a model in safetensors"
        )
    if layers is not None and layers < 1:
        raise BadInput(f"layers is {layers}; give at least 1, or None for all")
    where = choose_device(device)
    kind = choose_dtype(dtype, where)
    if (config := read_config(folder)) is not None:
        whole, tokenizer = attention_shape(config), _load_tokenizer(folder)
        decoder = read_decoder(folder, config, min(layers or whole[0], whole[0]), kind)
        if decoder is not None:
            return decoder.to(where), tokenizer, whole
    from tamis.probes.model import hf_backend  # it imports transformers, which takes seconds

    whole = attention_shape(hf_backend.read_config(folder))
    tokenizer = _load_tokenizer(folder)
    model = hf_backend.load_model(folder, min(layers or whole[0], whole[0]), kind)
    return model.to(where), tokenizer, whole


def _load_tokenizer(folder: Path) -> Tokenizer:
    with wrap_load_errors(folder):
        return Tokenizer.from_file(str(folder / "tokenizer.json"))


def attention_shape(config: Any) -> tuple[int, int]:
    """Layers and heads of a decoder whose attention tamis reads faithfully.

    Raises:
        ProxyUnsupported: the model has other attention than causal softmax, full or sliding; the
            message says which.
    """
    kind = getattr(config, "model_type", type(config).__name__)
    sizes = [getattr(config, f"num_{axis}", 0) for axis in ("hidden_layers", "attention_heads")]
    kinds = set(getattr(config, "layer_types", None) or ())
    reasons = {
        "is no text decoder": not all(sizes),
        "caps its attention logits": getattr(config, "attn_logit_softcapping", None) is not None,
        "lets tokens see what follows them": not getattr(config, "is_causal", True)
        or getattr(config, "use_bidirectional_attention", False),
        "has layers that do not attend by softmax over all keys or a window": not kinds
        <= {"full_attention", "sliding_attention"},
    }
    if why := [reason for reason, holds in reasons.items() if holds]:
        raise ProxyUnsupported(
            f"{kind} {' and '.join(why)}; choose a decoder such as Llama, Qwen or Gemma 3"
        )
    return int(sizes[0]), int(sizes[1])


def choose_device(device: str) -> torch.device:
    """The device of a name: `auto`, or any that torch knows.

    Raises:
        BadInput: torch does not know the name.
    """
    if device != "auto":
        try:
            return torch.device(device)
        except RuntimeError as error:
            raise BadInput(f"device is {device!r}; give auto, cpu, mps, cuda or cuda:N") from error
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def choose_dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    """The dtype of a name: `auto`, a torch dtype, or a torch dtype's name.

    Raises:
        BadInput: an unknown name; the message lists the known ones.
    """
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype in _DTYPES:
        return _DTYPES[dtype]
    if dtype == INT8:
        if not multiplies_int8(device):
            raise BadInput(
                f"dtype is int8 and {device} does not multiply it (x86 with VNNI does); give auto"
            )
        return torch.bfloat16
    if dtype != "auto":
        known = ", ".join(sorted((*_DTYPES, INT8)))
        raise BadInput(f"dtype is {dtype!r}; give auto or one of {known}")
    if device.type == "cpu":
        cpu = cpu_capabilities()
        return torch.bfloat16 if cpu.get("avx512_bf16") or cpu.get("amx_bf16") else torch.float32
    # older cards, such as T4 and V100, only emulate it, and are slower so than in fp16
    has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if has_bf16 else torch.float16


def guess_template(tokenizer: Tokenizer) -> Template:
    """The template of ChatML or Gemma if the tokenizer has its turn tokens, else `plain`."""
    turns = {"<|im_start|>": "chatml", "<start_of_turn>": "gemma"}
    found = (name for token, name in turns.items() if tokenizer.token_to_id(token) is not None)
    return TEMPLATES[next(found, "plain")]


def folder_revision(folder: Path) -> str:
    """The first 16 hex digits of the SHA-256 over the folder's weights files, in name order."""
    digest = hashlib.sha256()
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise BadModelFile(f"{folder} holds no *.safetensors; pickled weights are not loaded")
    for file in files:
        with file.open("rb") as stream:
            hashlib.file_digest(stream, lambda: digest)
    return digest.hexdigest()[:16]
