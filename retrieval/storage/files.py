"""The files of an index: written whole or not at all, and checked by size and checksum when read.

write     temporary file ─ fsync ─ rename to NAME ─ fsync of the folder
read      size checked when the file is opened, bytes checked before the first of them is used
"""

from __future__ import annotations

import hashlib
import io
import math
import mmap
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from tamis.probes.atomic_file import atomic_path
from tamis.probes.errors import BadIndex

PARTIAL_SUFFIX = ".part"
"""Ends the name of a segment's folder until everything in it is on disk."""
LOCK = "lock"
_BLOCK_BYTES, _HEADER_BYTES = 1 << 20, 4096
_SMALL_BYTES = 1 << 16
"""A file up to this size is read when it is opened, and closed: small segments hold no handles."""
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@dataclass(frozen=True, slots=True)
class FileEntry:
    """What the manifest records of a file: its path in the index, its size, and its BLAKE2b."""

    path: str
    size: int
    blake2b: str


def digest(data: bytes) -> str:
    """BLAKE2b of some bytes, 16 bytes as hexadecimal digits."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def file_digest(path: Path) -> str:
    """`digest` of a file, read block by block."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def file_entry(home: Path, path: Path) -> FileEntry:
    """The manifest's entry for a file that was just written."""
    return FileEntry(path.relative_to(home).as_posix(), path.stat().st_size, file_digest(path))


def write_durably(path: Path, data: bytes) -> None:
    """Writes a file atomically and waits for the disk: a crash leaves the old file or the new."""
    with atomic_path(path, sync=True) as temporary:
        temporary.write_bytes(data)


def sync(stream: BinaryIO) -> None:
    """Waits until what was written to a file is on the disk."""
    stream.flush()
    os.fsync(stream.fileno())


def save_array(path: Path, values: NDArray[Any]) -> None:
    """Writes an array as .npy into a folder not yet in place, and waits for the disk."""
    with path.open("wb") as stream:
        np.save(stream, values)
        sync(stream)


def save_state_array(home: Path, name: str, generation: int, values: NDArray[Any]) -> FileEntry:
    """Writes an array that a manifest names beside its segments, as `NAME-GENERATION.npy`.

    A number that is taken belongs to another manifest; then the next free one is used.
    """
    while (path := home / f"{name}-{generation:06d}.npy").exists():
        generation += 1
    with atomic_path(path, sync=True) as temporary, temporary.open("wb") as stream:
        np.save(stream, values)
    return file_entry(home, path)


class CheckedFile:
    """One file of an index, opened at once; its bytes are checked once, before their first use."""

    def __init__(self, home: Path, entry: FileEntry) -> None:
        self.entry, self.path = entry, home / entry.path
        # the manifest came with the index: it may name files of the index's own folder only
        if Path(entry.path).is_absolute() or ".." in Path(entry.path).parts:
            raise BadIndex(f"{home} names {entry.path}, a file outside the index; do not use it")
        self._lock, self._is_verified = threading.Lock(), False
        self._array: NDArray[Any] | None = None
        # the handle stays open: a writer may unlink the file, and this state can still be read
        self._stream = self.path.open("rb")
        size = os.fstat(self._stream.fileno()).st_size
        if size != entry.size:
            self._stream.close()
            raise BadIndex(
                f"{self.path} has {size} bytes and {entry.size} were written; build the index again"
            )
        self._buffer: bytes | mmap.mmap | None = None
        if size <= _SMALL_BYTES:
            with self._stream:
                self._buffer = self._stream.read()

    def check(self) -> None:
        """Compares the bytes with the checksum, once.

        Raises:
            BadIndex: they differ.
        """
        with self._lock:
            if self._is_verified:
                return
            if not self._has_checksum():
                raise BadIndex(
                    f"{self.path} is damaged: its bytes do not match the checksum in the manifest; "
                    "build the index again"
                )
            self._is_verified = True

    def is_intact(self) -> bool:
        """Whether every byte, read again through the handle, is as it was written."""
        with self._lock:
            return self._has_checksum()

    def _has_checksum(self) -> bool:
        checksum = hashlib.blake2b(digest_size=16)
        for start in range(0, self.entry.size, _BLOCK_BYTES):
            checksum.update(self.read(start, min(start + _BLOCK_BYTES, self.entry.size)))
        return checksum.hexdigest() == self.entry.blake2b

    def read(self, start: int = 0, stop: int | None = None) -> bytes:
        """Bytes `[start, stop)`, unchecked: for records that carry checksums of their own."""
        stop = self.entry.size if stop is None else stop
        if self._buffer is not None:
            return self._buffer[start:stop]
        return os.pread(self._stream.fileno(), stop - start, start)

    def array(self) -> NDArray[Any]:
        """The array of a .npy file, memory-mapped unless it is small; the same one every time.

        Raises:
            BadIndex: the bytes are not those that were written, or no array.
        """
        self.check()
        with self._lock:
            if self._array is None:
                self._array = self._open_array()
            return self._array

    def _open_array(self) -> NDArray[Any]:
        head = io.BytesIO(self.read(0, _HEADER_BYTES))
        try:
            read_header = _HEADERS[np.lib.format.read_magic(head)]
            shape, is_fortran, dtype = read_header(head)
        except (ValueError, KeyError, EOFError) as error:
            raise BadIndex(f"{self.path} holds no array: {error}") from error
        if 0 in shape:
            return np.zeros(shape, dtype)
        if self._buffer is None:  # a memory map has a handle of its own
            self._buffer = mmap.mmap(self._stream.fileno(), 0, access=mmap.ACCESS_READ)
            self._stream.close()
        flat: NDArray[Any] = np.frombuffer(self._buffer, dtype, math.prod(shape), head.tell())
        return flat.reshape(shape, order="F" if is_fortran else "C")

    def close(self) -> None:
        """Closes the file; arrays that were handed out stay readable."""
        self._stream.close()
        self._array = self._buffer = None
