"""Cached passages on disk: one safetensors file each, checked completely before it is used.

    ab/abcd….safetensors              named after its key; the folder is its first two digits
    ab/.abcd….safetensors.<hex>.tmp   being written; renamed when it is complete and on disk

Processes may share a folder: a file appears complete or not at all, and processes that write the
same entry write the same content. A file is copied into memory before it is checked, so later
changes to it cannot affect what is served.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tamis.probes.atomic_file import TEMPORARY_GLOB, atomic_path
from tamis.probes.attention.kv_layers import KVLayers
from tamis.probes.errors import BadInput, BadModelFile
from tamis.probes.kv_cache.codec import CodecMissing, KVCodec
from tamis.probes.kv_cache.serialization import describe_file, deserialize, serialize

_STALE_S = 3600  # a temporary file this old was left behind by a killed process
_CHECK_EVERY = (
    64  # attempts to write after which the folder is measured again: other processes write, too
)


@dataclass(frozen=True, slots=True)
class DamagedFile:
    """A file that is not a valid entry, and the reason.

    Attributes:
        is_unreadable: whether it could not be read, which may pass: it may be a valid entry.
    """

    file: Path
    reason: str
    is_unreadable: bool = False


class CacheFiles:
    """A folder of cached passages, bounded in bytes; the least recently used are deleted first."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder, self.max_bytes = folder, max_bytes
        self._attempts = self._free_bytes = 0
        self._makes_room = True
        """Whether deleting entries makes room, as far as is known since the folder was measured."""
        self._writing = threading.Lock()

    def prepare(self) -> CacheFiles:
        """Creates the folder if necessary, and checks that it is writable.

        Raises:
            BadInput: it cannot be created or written.
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
        """The path of an entry, whether it exists or not."""
        return self.folder / key[:2] / f"{key}.safetensors"

    def files(self) -> list[Path]:
        """The files of all entries, valid or not; other files in the folder are ignored."""
        return sorted(file for file in self.folder.glob("??/*.safetensors") if _is_key(file.stem))

    def size(self) -> tuple[int, int]:
        """The number of entries, and their total size in bytes."""
        sizes = [found.st_size for file in self.files() if (found := _stat(file))]
        return len(sizes), sum(sizes)

    def models(self) -> Counter[str]:
        """The number of entries of each model and storage, according to their headers."""
        return Counter(map(describe_file, self.files()))

    def load(self, key: str) -> KVLayers | None:
        """An entry, copied into memory; None if there is none.

        Raises:
            BadModelFile: it is damaged, incomplete or of another passage.
            OSError: it cannot be read at present, which says nothing about its contents.
        """
        file = self.path(key)
        try:
            data = _read_bytes(file)
        except FileNotFoundError:
            return None
        layers = deserialize(data, key)
        with suppress(OSError):  # deleted, or owned by another user: it then seems older than it is
            os.utime(file)
        return layers

    def store(
        self, key: str, layers: KVLayers, metadata: Mapping[str, str], codec: KVCodec | None = None
    ) -> bool:
        """Writes an entry, and makes room for it; False if it cannot be written."""
        data = serialize(key, layers, metadata, codec)
        if len(data) > self.max_bytes:
            return False
        with self._writing:
            try:
                if not self._has_room(len(data)):
                    return False
                self._write(self.path(key), data)
            except OSError:
                return False
            self._free_bytes -= len(data)
            return True

    def drop(self, key: str) -> bool:
        """Deletes an entry if it exists; returns whether it is gone."""
        return _delete(self.path(key))

    def drop_damaged(self, damaged: DamagedFile) -> bool:
        """Deletes a file whose contents are wrong; returns whether it is gone."""
        return not damaged.is_unreadable and _delete(damaged.file)

    def check_files(self) -> Iterator[DamagedFile | None]:
        """Reads and checks every file; yields its damage, or None if it is valid."""
        for file in self.files():
            try:
                deserialize(_read_bytes(file), file.stem)
                yield None
            except FileNotFoundError:
                yield None  # another process deleted it
            except CodecMissing:
                yield None  # it is another's, and whole
            except BadModelFile as error:
                yield DamagedFile(file, str(error))
            except OSError as error:
                why = error.strerror or str(error)
                yield DamagedFile(file, f"it cannot be read: {why}", is_unreadable=True)

    def clear(self) -> int:
        """Deletes every entry and all leftover temporary files; returns the bytes freed."""
        freed = 0
        for file in [*self.files(), *self.folder.glob(f"*/{TEMPORARY_GLOB}")]:
            if (found := _stat(file)) and _delete(file):
                freed += found.st_size
        return freed

    def _write(self, file: Path, data: bytes) -> None:
        file.parent.mkdir(exist_ok=True)
        with atomic_path(file, sync=True) as temporary:
            temporary.touch(mode=0o600)  # passages are readable by their owner alone
            temporary.write_bytes(data)

    def _has_room(self, needed: int) -> bool:
        """Whether so many bytes may be written, once older entries were deleted for them.

        The folder is walked at some of the attempts only, also where they fail.
        """
        is_due = self._attempts % _CHECK_EVERY == 0
        self._attempts += 1
        if is_due:
            self._free_bytes = self.max_bytes - self.size()[1]
        if needed > self._free_bytes and (is_due or self._makes_room):
            self._makes_room = False
            self._free_bytes = self._make_room(needed)
            self._makes_room = needed <= self._free_bytes
        return needed <= self._free_bytes

    def _make_room(self, needed: int) -> int:
        """Deletes the least recently used entries, down to nine tenths; returns the free bytes."""
        now = time.time()
        for leftover in self.folder.glob(f"*/{TEMPORARY_GLOB}"):
            if (found := _stat(leftover)) and now - found.st_mtime > _STALE_S:
                _delete(leftover)
        entries = sorted(
            (found.st_mtime, found.st_size, file) for file in self.files() if (found := _stat(file))
        )
        total = sum(size for _, size, _ in entries)
        for _, size, file in entries:
            if total + needed <= self.max_bytes * 9 // 10:
                break
            total -= size if _delete(file) else 0
        return self.max_bytes - total


def _read_bytes(file: Path) -> bytes:
    """The file's content, in memory that no other process can change.

    It is not mapped: a part that cannot be read would be a signal that ends the process.
    """
    return file.read_bytes()


def _is_key(name: str) -> bool:
    return len(name) == 64 and not set(name) - set("0123456789abcdef")


def _stat(file: Path) -> os.stat_result | None:
    """The file's status, or None if there is none: another process may have deleted it."""
    try:
        return file.stat()
    except OSError:
        return None


def _delete(file: Path) -> bool:
    """Deletes a file if possible; returns whether it is gone.

    An entry that cannot be deleted is replaced when it is written again.
    """
    try:
        file.unlink(missing_ok=True)
    except OSError:
        return False
    return True
