"""Files that are there whole or not at all, and that are known by their checksums.

write     NAME.part ─ fsync ─ rename to NAME ─ fsync of the folder
read      size checked when it is opened, bytes checked before the first of them is served
"""

from __future__ import annotations

import errno
import hashlib
import io
import math
import mmap
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis.probes.errors import BadIndex, BadInput, IndexBusy

PART = ".part"
LOCK = "lock"
_BLOCK_BYTES, _HEADER_BYTES = 1 << 20, 4096
_SMALL_BYTES = 1 << 16
"""A file up to this size is read when it is opened, and let go: small segments hold no handles."""
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@dataclass(frozen=True, slots=True)
class FileCard:
    """What a file must be: its path below the index, its size, and BLAKE2b of its bytes."""

    path: str
    size: int
    blake2b: str


def digest(data: bytes) -> str:
    """BLAKE2b of some bytes, 16 bytes as hexadecimal digits."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def digest_of(path: Path) -> str:
    """`digest` of a file, read block by block."""
    found = hashlib.blake2b(digest_size=16)
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            found.update(block)
    return found.hexdigest()


def card_of(home: Path, path: Path) -> FileCard:
    """The card of a file that was just written."""
    return FileCard(path.relative_to(home).as_posix(), path.stat().st_size, digest_of(path))


def write_durably(path: Path, data: bytes) -> None:
    """Writes a file so that it is there whole, or as it was before, whatever happens."""
    part = path.with_name(path.name + PART)
    with part.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(part, path)
    sync_file(path.parent)


def save_array(path: Path, values: NDArray[Any]) -> None:
    """Writes an array as .npy and waits for the disk; the folder is renamed into place later."""
    with path.open("wb") as stream:
        np.save(stream, values)
        stream.flush()
        os.fsync(stream.fileno())


def sync_file(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Guarded:
    """One file of an index, opened now; its bytes are checked once, before the first use."""

    def __init__(self, home: Path, card: FileCard) -> None:
        self.card, self.path = card, home / card.path
        # whoever made the index wrote the manifest: it may name the files of its own folder only
        if Path(card.path).is_absolute() or ".." in Path(card.path).parts:
            raise BadIndex(f"{home} names {card.path}, a file outside the index; do not use it")
        self._lock, self._sound = threading.Lock(), False
        self._array: NDArray[Any] | None = None
        # a handle kept open: a writer may unlink the file, and the reader's view stays whole
        self._stream = self.path.open("rb")
        size = os.fstat(self._stream.fileno()).st_size
        if size != card.size:
            self._stream.close()
            raise BadIndex(
                f"{self.path} has {size} bytes and {card.size} were written; build the index again"
            )
        self._held: bytes | mmap.mmap | None = None
        if size <= _SMALL_BYTES:
            with self._stream:
                self._held = self._stream.read()

    def check(self) -> None:
        """Compares the bytes with the checksum, once.

        Raises:
            BadIndex: they differ.
        """
        with self._lock:
            if self._sound:
                return
            if not self._matches():
                raise BadIndex(
                    f"{self.path} is damaged: its bytes do not match the checksum in the manifest; "
                    "build the index again"
                )
            self._sound = True

    def matches(self) -> bool:
        """Reads every byte again, through the handle, and compares with the checksum."""
        with self._lock:
            return self._matches()

    def _matches(self) -> bool:
        found = hashlib.blake2b(digest_size=16)
        for at in range(0, self.card.size, _BLOCK_BYTES):
            found.update(self.read(at, min(at + _BLOCK_BYTES, self.card.size)))
        return found.hexdigest() == self.card.blake2b

    def read(self, start: int = 0, stop: int | None = None) -> bytes:
        """Bytes `[start, stop)`, unchecked: for records that carry checksums of their own."""
        stop = self.card.size if stop is None else stop
        if self._held is not None:
            return self._held[start:stop]
        return os.pread(self._stream.fileno(), stop - start, start)

    def array(self) -> NDArray[Any]:
        """The array of a .npy file, memory-mapped unless it is small; the same one every time.

        Raises:
            BadIndex: the bytes are not those that were written, or no array.
        """
        self.check()
        with self._lock:
            if self._array is None:
                self._array = self._opened_array()
            return self._array

    def _opened_array(self) -> NDArray[Any]:
        head = io.BytesIO(self.read(0, _HEADER_BYTES))
        try:
            read = _HEADERS[np.lib.format.read_magic(head)]
            shape, fortran, dtype = read(head)
        except (ValueError, KeyError, EOFError) as error:
            raise BadIndex(f"{self.path} holds no array: {error}") from error
        if 0 in shape:
            return np.zeros(shape, dtype)
        if self._held is None:  # a map has a handle of its own
            self._held = mmap.mmap(self._stream.fileno(), 0, access=mmap.ACCESS_READ)
            self._stream.close()
        flat: NDArray[Any] = np.frombuffer(self._held, dtype, math.prod(shape), head.tell())
        return flat.reshape(shape, order="F" if fortran else "C")

    def close(self) -> None:
        """Lets the file go; arrays that were handed out stay readable."""
        self._stream.close()
        self._array = self._held = None


@contextmanager
def write_lock(home: Path) -> Iterator[None]:
    """Holds the index for writing; the lock goes with the process, however it ends.

    Raises:
        IndexBusy: another process holds it. BadInput: the folder cannot be written.
    """
    import fcntl

    path = home / LOCK
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise BadInput(
            f"{home} cannot be written ({error.strerror}); check its permissions"
        ) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            owner = os.read(handle, 20).decode("ascii", "replace").strip() or "unknown"
            raise IndexBusy(
                f"{home} is being written by another process (pid {owner}); wait until it is done"
            ) from error
        os.truncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(handle)
