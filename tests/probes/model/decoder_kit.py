"""Folders of small random decoders, and what transformers reads of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from tamis.probes.model import hf_backend
from tamis.probes.model.proxy import Proxy
from tamis.probes.prompt import TEMPLATES
from tests.probes import tiny


def save_decoder(folder: Path, kind: str, sharded: bool = False, **config: Any) -> Path:
    """A folder with a random model, in which norms and biases are random, too."""
    model = tiny.model(kind, **config)
    for name, weight in model.named_parameters():
        if "norm" in name or "bias" in name:
            nn.init.normal_(weight, 1.0 if "norm" in name else 0.0, 0.2)
    model.save_pretrained(folder, max_shard_size="100KB" if sharded else "1GB")
    tiny.tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def transformers_proxy(folder: Path, layers: int, dtype: torch.dtype = torch.float32) -> Proxy:
    """A proxy over what transformers reads of a folder."""
    model = hf_backend.load_model(folder, layers, dtype)
    return Proxy.from_model(model, tiny.tokenizer(), template=TEMPLATES["chatml"])
