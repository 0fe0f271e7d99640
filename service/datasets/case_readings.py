"""Readings kept on disk: what a proxy saw of one case serves every method and refit again."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tamis.compressors.reading.windows import Reading
from tamis.probes.errors import BadInput
from tamis.probes.kv_cache.cache import CachedReader, PassageCache
from tamis.probes.model.proxy import Proxy
from tamis.probes.text import Passage, Unit

def part_of(folder: Path, key: str) -> Path:
    """The part of a cache folder that belongs to a key, made if it is not there.

    Raises:
        BadInput: it cannot be made.
    """
    part = folder / hashlib.sha256(key.encode()).hexdigest()[:16]
    try:
        part.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(
            f"readings cannot be kept in {folder} ({error.strerror}); name another folder"
        ) from error
    return part


class Looks:
    """A folder of readings, one small safetensors file a case."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = part_of(folder, key)
        (self.folder / "key.txt").write_text(key)

    def get(
        self,
        question: str,
        passages: Sequence[Passage],
        units: Sequence[Unit],
        look: Callable[[str, Sequence[Passage], Sequence[Unit]], Reading],
    ) -> Reading:
        """The stored reading of this case, or a new one, stored."""
        shape = [[p.title, p.text] for p in passages], [[u.passage, *u.visible] for u in units]
        name = hashlib.sha256(json.dumps([question, shape]).encode()).hexdigest()[:24]
        path = self.folder / f"{name}.safetensors"
        if path.is_file():
            return _loaded(path)
        _save(path, look(question, passages, units))
        return _loaded(path)  # rounded to fp16, as every later run will find it


def _save(path: Path, look: Reading) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
    os.close(handle)
    tensors = {
        "features": look.features.half(),
        "tokens": torch.tensor(look.tokens, dtype=torch.int32),
    }
    facts = {
        "windows": look.windows,
        "tokens_read": look.tokens_read,
        "timings_ms": look.timings_ms,
    }
    save_file(tensors, temporary, metadata={"facts": json.dumps(facts)})
    os.replace(temporary, path)


def _loaded(path: Path) -> Reading:
    with safe_open(path, framework="pt") as file:
        facts = json.loads(file.metadata()["facts"])
        features = file.get_tensor("features").float()
        tokens = tuple(file.get_tensor("tokens").tolist())
    return Reading(features, tokens, facts["windows"], facts["tokens_read"], facts["timings_ms"])
