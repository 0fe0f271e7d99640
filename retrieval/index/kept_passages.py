"""Passages that an index keeps as they were read: a source of a `PassageCache`."""

from __future__ import annotations

from collections.abc import Sequence

from tamis.probes.attention.kv_layers import KVLayers
from tamis.probes.errors import BadIndex, BadModelFile
from tamis.probes.kv_cache.serialization import deserialize
from tamis.retrieval.storage.kept_windows import kept_windows
from tamis.retrieval.storage.segment import Segment


class KeptPassages:
    """Finds kept windows in all segments of one state of an index, by cache key."""

    def __init__(self, segments: Sequence[Segment]) -> None:
        self.segments = segments
        found = (kept_windows(segment) for segment in segments)
        self._kept = [kept for kept in found if kept is not None]

    def __len__(self) -> int:
        """How many windows are kept, those of deleted documents included."""
        return sum(map(len, self._kept))

    def load(self, key: str) -> KVLayers | None:
        """An entry; None if there is none.

        Raises:
            BadIndex: its bytes are not those that were written.
        """
        for kept in self._kept:
            if (data := kept.find(key)) is not None:
                try:
                    return deserialize(data, key)
                except BadModelFile as error:
                    raise BadIndex(
                        f"a kept passage of the index is damaged ({error}); look with "
                        "`tamis index verify`, and build the index again"
                    ) from error
        return None
