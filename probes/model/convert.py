"""Converting a GGUF file to a safetensors folder, which loads in a second."""

from __future__ import annotations

import errno
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
from transformers import modeling_gguf_pytorch_utils as gguf_reader
from transformers.utils import logging as hf_logging

from tamis.probes.errors import BadModelFile


def convert_gguf(gguf: Path, target: Path) -> None:
    """Writes a GGUF decoder as bf16 `model.safetensors`, `config.json` and `tokenizer.json`.

    Reading GGUF takes 15 to 25 s on two cores, the converted folder under 2 s, so this runs once.

    Args:
        gguf: the file; its folder must be readable.
        target: an existing folder. Files of these names in it are overwritten.

    Raises:
        BadModelFile: transformers cannot read the file.
        OSError: the target cannot be written.
    """
    try:
        with quiet_transformers(), _without_gguf_progress_bar():
            model, tokenizer = _load_gguf(gguf)
    except Exception as error:  # a damaged header makes the GGUF readers raise anything
        raise BadModelFile(
            f"{gguf.name} cannot be read as a GGUF decoder ({error}); pull it again"
        ) from error
    _write_weights(model, target)
    (target / "config.json").write_text(
        json.dumps(_portable_config(model), indent=2, sort_keys=True), encoding="utf-8"
    )
    tokenizer.save_pretrained(target)


def _load_gguf(gguf: Path) -> tuple[Any, Any]:
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
        local_files_only=True,
    )
    tokenizer = AutoTokenizer.from_pretrained(
        gguf.parent, gguf_file=gguf.name, local_files_only=True
    )
    return model, tokenizer


def _write_weights(model: Any, target: Path) -> None:
    tied = bool(model.config.tie_word_embeddings)
    weights = {
        name: weight.contiguous()
        for name, weight in model.state_dict().items()
        if not (tied and name == "lm_head.weight")
    }
    try:
        save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    except SafetensorError as error:  # the Rust side reports the system's error number in text only
        number = errno.ENOSPC if f"os error {errno.ENOSPC}" in str(error) else errno.EIO
        raise OSError(number, str(error)) from error


def _portable_config(model: Any) -> dict[str, Any]:
    """The model's configuration without entries about the file it was read from."""
    foreign = ("quantization_config", "_name_or_path", "_model_name_or_path")
    config = {key: value for key, value in model.config.to_dict().items() if key not in foreign}
    return {**config, "architectures": [type(model).__name__]}


@contextmanager
def _without_gguf_progress_bar() -> Iterator[None]:
    """Disables the progress bar of the GGUF reader, which ignores transformers' switch (5.24)."""
    names = vars(gguf_reader)
    bar = names["tqdm"]
    names["tqdm"] = lambda tensors, **_: tensors
    try:
        yield
    finally:
        names["tqdm"] = bar


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silences transformers' progress bars, reports and warnings inside the block."""
    before, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity(logging.ERROR)
    hf_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        hf_logging.set_verbosity(before)
        if bars:
            hf_logging.enable_progress_bar()
