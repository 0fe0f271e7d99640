"""Keys of one segment, and what a search asks of them: in this process, or on a Ray cluster.

Shards of an index on a Ray cluster: a segment an actor, merged exactly.

Words, fusion and texts stay with the process that searches; actors read keys, in their own memory
and on their own processors. Every machine opens the index under the same path.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tamis.probes.errors import BadInput
from tamis.probes.extras import connect_to_ray
from tamis.probes.interruption import check_interruption
from tamis.retrieval.approximate.segment_search import open_structures, read_floor
from tamis.retrieval.approximate.types import FoundKeys, KeySearch
from tamis.retrieval.keys.late_interaction import (
    SCALE,
    FittedFloor,
    Floats,
    Reference,
    max_similarities,
)
from tamis.retrieval.storage.manifest import SegmentEntry
from tamis.retrieval.storage.segment import Segment

Numbers = NDArray[np.int64]
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class KeyShard:
    """The keys of a segment.

    Attributes:
        keys: `[N, H·d]` int8. starts: `[C + 1]`, where the keys of each chunk begin.
        searches: the structure of each head; none if every key is read.
        drawn: numbers of the chunks that all others are compared with.
        floor: predicts what those would say; None where nothing was fitted.
    """

    keys: NDArray[Any]
    starts: NDArray[Any]
    searches: Sequence[KeySearch]
    heads: int
    drawn: Numbers
    floor: FittedFloor | None = None

    def best_of_all(self, queries: Floats) -> Floats:
        """The largest inner product of each query with a key of each chunk: `[H, R, C]`."""
        return max_similarities(queries, self.keys, self.starts, self.heads)

    def best_of(self, queries: Floats, chunks: Numbers) -> Floats:
        """The same for some chunks: `[H, R, K]`."""
        return max_similarities(queries, *self._gather(chunks), self.heads)

    def best_of_drawn(self, queries: Floats) -> Floats:
        """The same for the chunks that others are compared with."""
        return max_similarities(queries, *self._drawn_keys, self.heads)

    def predict(self, queries: Floats) -> tuple[Reference, Floats, int] | None:
        """What the floor predicts: the reference, and its scale and number of anchors."""
        if self.floor is None:
            return None
        return self.floor.reference(queries), self.floor.scale, len(self.floor.anchors)

    def promises(self, queries: Floats, reference: Reference, effort: float) -> tuple[Floats, int]:
        """A lower bound of each chunk's score, by the keys that the structures find: `[C]`.

        And inner products with keys and centroids, for all query vectors and heads together.
        """
        parts = np.split(queries / np.float32(SCALE), self.heads, axis=1)
        promise, read = np.zeros(len(self.starts) - 1, np.float32), 0
        for head, search in enumerate(self.searches):
            check_interruption()
            found = search.find(parts[head], effort)
            read += found.read
            mean, spread = reference.mean[head, :, 0], reference.spread[head, :, 0]
            _add_gains(promise, found, self.starts, mean, spread)
        return promise, read

    @cached_property
    def _drawn_keys(self) -> tuple[NDArray[Any], NDArray[Any]]:
        return self._gather(self.drawn)

    def _gather(self, chunks: Numbers) -> tuple[NDArray[Any], NDArray[Any]]:
        """The keys of chunks, one after the other, and where each chunk's begin."""
        starts, stops = self.starts[chunks], self.starts[chunks + 1]
        ends = zip(starts.tolist(), stops.tolist(), strict=True)
        rows = [self.keys[:0], *(self.keys[first:last] for first, last in ends)]
        return np.concatenate(rows), np.cumsum([0, *(stops - starts)])


def open_shard(segment: Segment, heads: int, drawn: Numbers) -> KeyShard:
    """The keys of a segment that has keys, memory-mapped.

    Raises:
        BadIndex: bytes are not those that were written. MissingExtra: its structure is FAISS's.
    """
    stored = segment.keys()
    assert stored is not None
    floor = read_floor(segment.files)
    return KeyShard(*stored, open_structures(segment.files, heads), heads, drawn, floor)


@dataclass(frozen=True, slots=True)
class LocalShards:
    """Shards of this process in the order of an index's segments, asked one after the other."""

    shards: Sequence[KeyShard]

    def map(self, task: Callable[..., Answer], *args: Sequence[Any]) -> list[Answer]:
        """The task's answer for each shard; it is called with the shard and its own arguments."""
        return [task(shard, *own) for shard, *own in zip(self.shards, *args, strict=True)]


def _add_gains(
    promise: Floats, found: FoundKeys, starts: NDArray[Any], mean: Floats, spread: Floats
) -> None:
    """Adds to each chunk what its best found key of each query adds to its score."""
    kept = np.flatnonzero(found.scores > mean[found.rows])
    order = kept[np.argsort(found.keys[kept])]  # ascending, so that chunks are looked up in order
    chunks = np.searchsorted(starts, found.keys[order], "right") - 1
    rows, scores = found.rows[order], found.scores[order]
    own, places = np.unique(chunks, return_inverse=True)
    best = np.zeros((len(mean), len(own)), np.float32)
    above = scores - mean[rows]
    np.maximum.at(best, (rows, places), above * above / spread[rows])
    promise[own] += best.sum(0)


class RayShards:
    """Actors that hold one segment each; they end with the object.

    Args:
        home: the folder of the index, as the machines of the cluster see it.
        entries: the segments. drawn: chunks of each that all others are compared with.

    Raises:
        MissingExtra: Ray is not installed.
    """

    def __init__(
        self, home: Path, entries: Sequence[SegmentEntry], heads: int, drawn: Sequence[Numbers]
    ) -> None:
        self._ray = connect_to_ray("ray", "a search by shards on Ray", "ray")
        actor = self._ray.remote(num_cpus=1, max_restarts=2, max_task_retries=2)(_ShardActor)
        where = str(home.resolve())
        pairs = zip(entries, drawn, strict=True)
        self._actors = [actor.remote(where, entry, heads, own) for entry, own in pairs]

    def map(self, task: Callable[..., Answer], *args: Sequence[Any]) -> list[Answer]:
        """The task's answer for each shard; all actors work at the same time.

        Raises:
            BadInput: an actor cannot read its segment, or died more than twice.
        """
        asked = [
            actor.run.remote(task, *own) for actor, *own in zip(self._actors, *args, strict=True)
        ]
        try:
            answers: list[Answer] = self._ray.get(asked)
        except self._ray.exceptions.RayError as error:
            raise BadInput(
                f"a shard of the index gave no answer ({_cause(error)}); every machine of the "
                "cluster has to see the index under the same path, in the state that was opened"
            ) from error
        return answers


class _ShardActor:
    """One segment in a process of its own."""

    def __init__(self, home: str, entry: SegmentEntry, heads: int, drawn: Numbers) -> None:
        self._shard: KeyShard = open_shard(Segment(Path(home), entry), heads, drawn)

    def run(self, task: Callable[..., Any], *args: Any) -> Any:
        return task(self._shard, *args)


def _cause(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__
