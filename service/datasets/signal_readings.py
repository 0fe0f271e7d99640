"""What a proxy saw of single prompts, kept on disk: an hour of reading survives being cut short."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from tamis.probes.prompt import Prompt
from tamis.probes.signal import Signal, Want
from tamis.service.datasets.case_readings import part_of


@dataclass(frozen=True, slots=True)
class Kept:
    """A signal, rounded to bfloat16 (three digits), and the milliseconds that reading it took."""

    signal: Signal
    ms: float


class Signals:
    """A folder with a small safetensors file a prompt."""

    def __init__(self, folder: Path, reader: Any) -> None:
        """Files are of this reader's model, revision, dtype and template alone."""
        card, template = reader.card, reader.layout.template.name
        dtype = str(getattr(reader, "dtype", "")).removeprefix("torch.")
        self.key = f"{card.name} {card.revision} {dtype} {template}"
        self.folder = part_of(folder, f"signals {self.key}")

    def get(self, prompt: Prompt, want: Want) -> Kept | None:
        """What is kept of a prompt; None if nothing is, or the file is damaged."""
        try:
            with safe_open(self._path(prompt, want), framework="pt") as file:
                ms = float(json.loads(file.metadata()["facts"])["ms"])
                weights = file.get_tensor("weights").float()
        except (OSError, SafetensorError, KeyError, TypeError, ValueError):
            return None
        return Kept(Signal(weights, want.layers, want.rows), ms)

    def put(self, prompt: Prompt, want: Want, signal: Signal, ms: float) -> Kept:
        """Keeps a signal, and gives it as a later run will find it."""
        path = self._path(prompt, want)
        part = path.with_name(f"{path.name}.{os.getpid()}")
        weights = signal.weights.bfloat16().contiguous()
        save_file({"weights": weights}, part, metadata={"facts": json.dumps({"ms": ms})})
        os.replace(part, path)
        return Kept(Signal(weights.to(torch.float32), signal.layers, signal.rows), ms)

    def _path(self, prompt: Prompt, want: Want) -> Path:
        told = [prompt.read.ids, prompt.read.start, prompt.ask.ids, prompt.ask.rows]
        wanted = repr((want.layers, want.rows))
        digest = hashlib.sha256(json.dumps([told, wanted]).encode()).hexdigest()
        return self.folder / f"{digest[:24]}.safetensors"
