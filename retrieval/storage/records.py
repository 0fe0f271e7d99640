"""Records as lines of JSON, each with a number to find it by and a checksum.

NAME.jsonl   one object per line, ASCII: lone surrogates and control characters are escapes
NAME.npy     per record: where its line starts, how long it is, 8 bytes of BLAKE2b
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis.probes.errors import BadIndex
from tamis.retrieval.storage.files import CheckedFile, save_array

_PLACE_DTYPE = np.dtype([("start", "<u8"), ("size", "<u4"), ("check", "<u8")])


def _checksum(line: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(line, digest_size=8).digest(), "little")


class RecordWriter:
    """Appends records to a file; only their places are kept in memory."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name, self._offset = folder, name, 0
        self._places: list[tuple[int, int, int]] = []
        self._stream = (folder / f"{name}.jsonl").open("wb")

    def __len__(self) -> int:
        return len(self._places)

    def add(self, record: dict[str, Any]) -> None:
        """Appends one record."""
        line = json.dumps(record, separators=(",", ":")).encode()
        self._places.append((self._offset, len(line), _checksum(line)))
        self._stream.write(line + b"\n")
        self._offset += len(line) + 1

    def close(self) -> None:
        """Writes the places and waits until everything is on disk."""
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()
        places = np.array(self._places, dtype=_PLACE_DTYPE)
        save_array(self._folder / f"{self._name}.npy", places)


class Records:
    """Records on disk; each is read when it is accessed, and compared with its checksum."""

    def __init__(self, lines: CheckedFile, places: CheckedFile) -> None:
        self._line_file, self._place_file = lines, places
        self._places: NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self._place_table())

    def __getitem__(self, number: int) -> dict[str, Any]:
        """One record.

        Raises:
            BadIndex: its bytes are not those that were written.
        """
        place = self._place_table()[number]
        start, size = int(place["start"]), int(place["size"])
        line = self._line_file.read(start, start + size)
        if _checksum(line) != int(place["check"]):
            raise BadIndex(
                f"{self._line_file.path} is damaged: record {number}, at byte {start}, does not "
                "match its checksum; build the index again"
            )
        record: dict[str, Any] = json.loads(line)
        return record

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[number] for number in range(len(self)))

    def _place_table(self) -> NDArray[Any]:
        if self._places is None:
            self._places = self._place_file.array()
        return self._places
