"""Kept readings: what a model computed for one input, on disk, for every later run.

FOLDER/<digest of the key>/key.json                         the key in words
FOLDER/<digest of the key>/<digest of the identity>.safetensors
    tensors     of one entry
    metadata    `facts`, JSON; `checksum` of tensors, facts and the file's place

A file appears whole or not at all and never changes, so processes may share a folder: two that
write the same entry write the same content. A file that is torn, damaged or in another's place
counts as absent.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tamis.probes.atomic_file import atomic_path
from tamis.probes.errors import BadInput

FORMAT = 1
"""Part of every key: raised whenever files are laid out in another way."""


@dataclass(frozen=True, slots=True)
class StoreKey:
    """Everything that readings depend on, apart from the input of each.

    Attributes:
        kind: what is read, such as `signals`.
        model, revision: of the model that reads. dtype: what it computes in.
        template: of its prompts.
        options: all else that a reading depends on, in words.
        version: of what is read and how it is stored: raised whenever either changes.
    """

    kind: str
    model: str
    revision: str
    dtype: str = ""
    template: str = ""
    options: str = ""
    version: int = 1

    @classmethod
    def of_reader(cls, kind: str, reader: Any, options: str = "", version: int = 1) -> StoreKey:
        """The key of what a proxy reads, whether or not it keeps passages in memory."""
        card, template = reader.card, reader.layout.template.name
        proxy = getattr(reader, "proxy", reader)
        dtype = str(getattr(proxy, "arithmetic", getattr(proxy, "dtype", "")))
        dtype = dtype.removeprefix("torch.")
        return cls(kind, card.name, card.revision, dtype, template, options, version)


@dataclass(frozen=True, slots=True)
class Entry:
    """What is kept for one input: tensors on the CPU, and facts that JSON can hold."""

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]


class ReadingStore:
    """A folder of entries of one key, one small safetensors file each.

    An entry is found by its identity: whatever JSON can hold, all that its input consists of.
    """

    def __init__(self, folder: Path, key: StoreKey) -> None:
        """Makes the key's folder.

        Raises:
            BadInput: it cannot be made.
        """
        text = json.dumps({"format": FORMAT, **asdict(key)}, sort_keys=True)
        self.folder = folder / _digest(text)
        with _refuse_unwritable(folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            if not (note := self.folder / "key.json").exists():
                with atomic_path(note) as temporary:
                    temporary.write_text(text, "utf-8")

    def get(self, identity: object) -> Entry | None:
        """The entry of an identity; None if there is none, or its file is damaged."""
        path = self._path(identity)
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata()
                tensors = {name: file.get_tensor(name) for name in file.keys()}
            if metadata["checksum"] != self._checksum(path, tensors, metadata["facts"]):
                return None
            return Entry(tensors, json.loads(metadata["facts"]))
        except (OSError, SafetensorError, KeyError, TypeError, ValueError):
            return None

    def put(
        self, identity: object, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]
    ) -> Entry:
        """Keeps an entry, and returns it as a later run will find it.

        Raises:
            BadInput: it cannot be written.
        """
        path, text = self._path(identity), json.dumps(facts)
        entry = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        metadata = {"facts": text, "checksum": self._checksum(path, entry, text)}
        with _refuse_unwritable(self.folder), atomic_path(path) as temporary:
            save_file(entry, temporary, metadata=metadata)
        return Entry(entry, json.loads(text))

    def get_or_compute(self, identity: object, compute: Callable[[], Entry]) -> Entry:
        """The entry of an identity, or a new one, kept; either way as a later run will find it."""
        if (entry := self.get(identity)) is not None:
            return entry
        new = compute()
        return self.put(identity, new.tensors, new.facts)

    def _path(self, identity: object) -> Path:
        return self.folder / f"{_digest(json.dumps(identity, sort_keys=True))}.safetensors"

    def _checksum(self, path: Path, tensors: Mapping[str, Tensor], facts: str) -> str:
        digest = hashlib.sha256(f"{self.folder.name}/{path.stem}\0{facts}".encode())
        for name in sorted(tensors):
            tensor = tensors[name]
            digest.update(f"\0{name} {tensor.dtype} {list(tensor.shape)}\0".encode())
            digest.update(tensor.view(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


def _digest(text: str) -> str:
    """128 bits as a name for a file: no two texts share it but by chance in 2^64 of them."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@contextmanager
def _refuse_unwritable(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        why = getattr(error, "strerror", None) or error
        raise BadInput(
            f"readings cannot be kept in {folder} ({why}); name another folder"
        ) from error
