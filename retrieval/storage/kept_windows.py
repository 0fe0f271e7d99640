"""Kept readings of a segment's chunks: what their windows need to be asked again, unread.

kv.bin                      the entries of all windows one after the other, each with its SHA-256;
                            behind those of a chunk, one with the vectors of its units, if any
kv_starts.npy [W + 1]       where each begins
kv_keys.npy [W, 32] uint8   the cache key of each, see `kv_cache/cache.py`, `serialization.py`
kv_chunks.npy [C + 1]       where the windows of each chunk begin

An entry is checked by its own checksum when it is used: the file is as large as all others together
and more, and a question needs a few windows of it. `tamis index verify` reads all of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tamis.retrieval.storage.files import CheckedFile, save_array, sync

if TYPE_CHECKING:
    from tamis.retrieval.storage.manifest import SegmentEntry
    from tamis.retrieval.storage.segment import Segment

KeptWindow = tuple[str, bytes]
"""The key of a window, or of a chunk's vectors, 64 hex digits, and the bytes of its entry."""
FILE = "kv.bin"
_KEY_BYTES = 32


class KeptWindows:
    """The kept windows of a segment, read where they are needed."""

    def __init__(self, files: Mapping[str, CheckedFile]) -> None:
        self._data = files[FILE]
        self._starts, self._keys, self.chunks = (
            files[f"kv_{name}.npy"].array() for name in ("starts", "keys", "chunks")
        )
        self._order: NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, key: str) -> bytes | None:
        """The entry of a cache key; None if the segment has none."""
        wanted = np.frombuffer(bytes.fromhex(key), np.uint8)
        heads = _first_numbers(self._keys)
        if self._order is None:
            self._order = np.argsort(heads, kind="stable")
        at = int(np.searchsorted(heads, _first_numbers(wanted[None])[0], sorter=self._order))
        while at < len(self._order) and (self._keys[self._order[at], :8] == wanted[:8]).all():
            window = int(self._order[at])
            if (self._keys[window] == wanted).all():
                return self._data.read(int(self._starts[window]), int(self._starts[window + 1]))
            at += 1
        return None

    def windows_of(self, chunk: int) -> Iterator[KeptWindow]:
        """The windows of a chunk, in order."""
        for window in range(int(self.chunks[chunk]), int(self.chunks[chunk + 1])):
            start, stop = int(self._starts[window]), int(self._starts[window + 1])
            yield self._keys[window].tobytes().hex(), self._data.read(start, stop)


def kept_bytes(entry: SegmentEntry) -> int:
    """What kept readings take of a segment on disk."""
    return sum(file.size for file in entry.files if Path(file.path).name.startswith("kv"))


def kept_windows(segment: Segment) -> KeptWindows | None:
    """What a segment keeps of its chunks' readings; None where the index keeps none."""
    return KeptWindows(segment.files) if FILE in segment.files else None


def write_kept_windows(folder: Path, chunks: Iterable[Iterable[KeptWindow]]) -> None:
    """Writes the windows of all chunks, chunk by chunk, and waits for the disk."""
    starts, keys, bounds = [0], list[bytes](), [0]
    with (folder / FILE).open("wb") as stream:
        for windows in chunks:
            for key, data in windows:
                stream.write(data)
                starts.append(starts[-1] + len(data))
                keys.append(bytes.fromhex(key))
            bounds.append(len(keys))
        sync(stream)
    table = np.frombuffer(b"".join(keys), np.uint8).reshape(-1, _KEY_BYTES)
    save_array(folder / "kv_starts.npy", np.array(starts, dtype=np.int64))
    save_array(folder / "kv_keys.npy", table)
    save_array(folder / "kv_chunks.npy", np.array(bounds, dtype=np.int64))


def copy_kept_windows(folder: Path, old: Sequence[Segment]) -> None:
    """Writes those of the live chunks of other segments, in order; no model reads them again."""

    def live_chunks() -> Iterator[Iterator[KeptWindow]]:
        for segment in old:
            kept = kept_windows(segment)
            for chunk in np.flatnonzero(segment.live).tolist():
                yield kept.windows_of(chunk) if kept is not None else iter(())

    write_kept_windows(folder, live_chunks())


def _first_numbers(keys: NDArray[Any]) -> NDArray[Any]:
    """The first 8 bytes of each key as a number, `[W]`."""
    numbers: NDArray[Any] = np.ascontiguousarray(keys[:, :8]).view(">u8")[:, 0]
    return numbers
