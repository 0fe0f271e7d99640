"""Passages that an index keeps as they were read: a source of a `PassageCache`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from torch import Tensor

from tamis.probes.attention.kv_layers import KVLayers
from tamis.probes.errors import BadIndex, BadModelFile
from tamis.probes.kv_cache.serialization import deserialize
from tamis.probes.kv_cache.unit_vectors import deserialize_vectors
from tamis.retrieval.storage.kept_windows import kept_windows
from tamis.retrieval.storage.segment import Segment

T = TypeVar("T")


class KeptPassages:
    """Finds what is kept in all segments of one state of an index, by cache key."""

    def __init__(self, segments: Sequence[Segment]) -> None:
        self.segments = segments
        found = (kept_windows(segment) for segment in segments)
        self._kept = [kept for kept in found if kept is not None]

    def __len__(self) -> int:
        """How many entries are kept, those of deleted documents included."""
        return sum(map(len, self._kept))

    def load(self, key: str) -> KVLayers | None:
        """An entry; None if there is none.

        Raises:
            BadIndex: its bytes are not those that were written.
        """
        return self._load(key, deserialize)

    def load_vectors(self, key: str) -> Tensor | None:
        """The vectors of a passage's units, `[U, D]`; None if there are none.

        Raises:
            BadIndex: as `load`.
        """
        return self._load(key, deserialize_vectors)

    def _load(self, key: str, read: Callable[[bytes, str], T]) -> T | None:
        for kept in self._kept:
            if (data := kept.find(key)) is not None:
                try:
                    return read(data, key)
                except BadModelFile as error:
                    raise BadIndex(
                        f"a kept passage of the index is damaged ({error}); look with "
                        "`tamis index verify`, and build the index again"
                    ) from error
        return None
