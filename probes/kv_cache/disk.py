"""Kept passages on disk: one safetensors file each, checked whole before it is believed.

    ab/abcd….safetensors    named after its key; the first two digits are the folder
    .tmp-…                  being written; renamed when it is complete and on the disk

Processes may share a folder: a file appears whole or not at all, and two that write the same entry
write the same content. What is read is copied into memory before it is checked, so nothing that
happens to the file later is served.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tamis.probes.attention.kv_layers import KVLayers
from tamis.probes.errors import BadInput, BadModelFile
from tamis.probes.kv_cache.serialization import describe_file, deserialize, serialize

_TEMPORARY = ".tmp-"
_STALE_S = 3600  # a temporary file this old was left by a process that was killed
_CHECK_EVERY = 64  # writes after which the folder is measured again: others write there, too


@dataclass(frozen=True, slots=True)
class DamagedFile:
    """A file that is no whole entry, and why."""

    file: Path
    reason: str


class CacheFiles:
    """A folder of kept passages, bounded in bytes; those not used for longest go first."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder, self.max_bytes = folder, max_bytes
        self._writes = self._free_bytes = 0
        self._writing = threading.Lock()

    def prepare(self) -> CacheFiles:
        """Makes the folder, if it is not there, and sees whether it can be written.

        Raises:
            BadInput: it cannot.
        """
        folder = self.folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise BadInput(
                f"kept passages cannot be written to {folder} ({error.strerror}); name another"
            ) from error
        return self

    def path(self, key: str) -> Path:
        """Where an entry lies, whether it does or not."""
        return self.folder / key[:2] / f"{key}.safetensors"

    def files(self) -> list[Path]:
        """Every entry, whole or not; other files in the folder are nobody's business."""
        return sorted(file for file in self.folder.glob("??/*.safetensors") if _is_key(file.stem))

    def size(self) -> tuple[int, int]:
        """Entries and bytes."""
        sizes = [found.st_size for file in self.files() if (found := _stat(file))]
        return len(sizes), sum(sizes)

    def models(self) -> Counter[str]:
        """How many entries there are of each model and storage, by what their headers say."""
        return Counter(map(describe_file, self.files()))

    def load(self, key: str) -> KVLayers | None:
        """An entry, in memory of its own; None if there is none.

        Raises:
            BadModelFile: it is damaged, torn or another passage's.
        """
        file = self.path(key)
        try:
            data = _read_bytes(file)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BadModelFile(f"{file} cannot be read: {error.strerror}") from error
        held = deserialize(data, key)
        self._touch(file)
        return held

    def store(self, key: str, held: KVLayers, about: Mapping[str, str]) -> bool:
        """Writes an entry, and makes room for it; False if the disk would not have it."""
        data = serialize(key, held, about)
        if len(data) > self.max_bytes:
            return False
        with self._writing:
            if self._writes % _CHECK_EVERY == 0:
                self._free_bytes = self.max_bytes - self.size()[1]
            if len(data) > self._free_bytes:
                self._free_bytes = self._make_room(len(data))
            try:
                self._write(self.path(key), data)
            except OSError:
                return False
            self._writes, self._free_bytes = self._writes + 1, self._free_bytes - len(data)
            return True

    def drop(self, key: str) -> bool:
        """Deletes an entry, if it is there; whether it is gone."""
        return _delete(self.path(key))

    def check_files(self) -> Iterator[DamagedFile | None]:
        """Reads every file whole: one fault, or None, a file."""
        for file in self.files():
            try:
                deserialize(_read_bytes(file), file.stem)
                yield None
            except FileNotFoundError:
                yield None  # another process dropped it
            except (BadModelFile, OSError) as error:
                yield DamagedFile(file, str(error))

    def clear(self) -> int:
        """Deletes every entry and what killed processes left; the number of bytes that frees."""
        freed = 0
        for file in [*self.files(), *self.folder.glob(f"*/{_TEMPORARY}*")]:
            if (found := _stat(file)) and _delete(file):
                freed += found.st_size
        return freed

    def _write(self, file: Path, data: bytes) -> None:
        file.parent.mkdir(exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=_TEMPORARY, dir=file.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(name, file)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def _make_room(self, needed: int) -> int:
        """Deletes what was not used for longest, down to nine tenths; the bytes that are free."""
        now = time.time()
        for left in self.folder.glob(f"*/{_TEMPORARY}*"):
            if (found := _stat(left)) and now - found.st_mtime > _STALE_S:
                _delete(left)
        there = sorted(
            (found.st_mtime, found.st_size, file) for file in self.files() if (found := _stat(file))
        )
        total = sum(size for _, size, _ in there)
        for _, size, file in there:
            if total + needed <= self.max_bytes * 9 // 10:
                break
            total -= size if _delete(file) else 0
        return self.max_bytes - total

    def _touch(self, file: Path) -> None:
        with suppress(OSError):  # gone, or not ours to touch: then it counts as older than it is
            os.utime(file)


def _read_bytes(file: Path) -> bytes:
    """The file's content, through a map of it: one copy, into memory nobody else can change."""
    with file.open("rb") as stream:
        if not os.fstat(stream.fileno()).st_size:
            return b""
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            return mapped[:]


def _is_key(name: str) -> bool:
    return len(name) == 64 and not set(name) - set("0123456789abcdef")


def _stat(file: Path) -> os.stat_result | None:
    """None where another process was faster."""
    try:
        return file.stat()
    except FileNotFoundError:
        return None


def _delete(file: Path) -> bool:
    """Best effort: what cannot be deleted is replaced when it is written again. Whether it went."""
    try:
        file.unlink(missing_ok=True)
    except OSError:
        return False
    return True
