"""What a search engine has to offer to hold an index: chunks, and their keys as multi-vectors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """A chunk as an engine stores it.

    Attributes:
        number: its place in the index, from 0.
        record: `doc`, `text`, `start`, `stop`, `title`, `heading`, `metadata`.
        keys: `[N, H·d]` int8, at least one. An engine stores those of each head as one multi-vector
            of whole numbers, which 16-bit floats hold exactly.
    """

    number: int
    record: Mapping[str, Any]
    keys: NDArray[np.int8]


class ChunkStore(Protocol):
    """One collection of an engine."""

    def write(self, header: Mapping[str, Any], chunks: Iterable[Sequence[StoredChunk]]) -> None:
        """Replaces what the collection holds; the header is written last.

        Args:
            header: what `read_header` gives; its `heads` and `width` are those of the keys.
            chunks: in batches.
        """
        ...

    def read_header(self) -> dict[str, Any] | None:
        """The header; None where there is no collection, or none that was written to the end."""
        ...

    def nearest(self, head: int, queries: Floats, count: int) -> list[int]:
        """Numbers of chunks with the largest sum of best inner products, best first.

        Args:
            queries: `[R, d]`.
        """
        ...

    def read(self, numbers: Sequence[int]) -> list[StoredChunk]:
        """The chunks of these numbers, in any order."""
        ...

    def close(self) -> None:
        """Gives up what the engine holds: a lock, a connection."""
        ...
