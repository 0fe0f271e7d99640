"""The leg of attention keys: late interaction with every chunk, or with those that promise most.

                     ┌ segment without a structure ──────► every chunk read ┐
query vectors ───────┼ graph or ivf: keys ─► their chunks ─► best promise ──┼─► chunks read whole
                     └ chunks that other legs rank high ────────────────────┘    late interaction

Every search compares a chunk with the same `REFERENCE_CHUNKS` chunks, so that a chunk that was read
has the score of an exact search; what an approximate search can miss is a chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis.retrieval.index.key_shards import KeyShard, Numbers, ShardPool
from tamis.retrieval.index.leg_scores import LegScores, complete_scores, partial_scores, top_indexes
from tamis.retrieval.keys.late_interaction import (
    Floats,
    Reference,
    reference_of,
    stand_out_scores,
)
from tamis.retrieval.storage.postings import Mask

REFERENCE_CHUNKS = 512
CANDIDATES = 192
"""Chunks that an approximate search reads whole, beside those that other legs rank high."""
FEW_KEYS = 1 << 17
"""If the chunks that a condition allows have no more keys than this, all of them are read."""
MAX_EFFORT = 8.0


class KeyLeg:
    """The keys of one state of an index, segment after segment. Threads may share it.

    Args:
        starts: of each segment, where the keys of its chunks begin, `[C + 1]`.
        has_structure: by segment; without one, every key of a segment is read.
        live: `[C]`, over the chunks of all segments.
        open_pool: opens the shards, given the chunks of each that others are compared with.

    Attributes:
        sizes: `[C]`, the keys of each chunk.
        drawn: `[C]`, the chunks that others are compared with: live ones, evenly drawn.
    """

    def __init__(
        self,
        starts: Sequence[NDArray[Any]],
        has_structure: Sequence[bool],
        heads: int,
        live: Mask,
        open_pool: Callable[[list[Numbers]], ShardPool],
    ) -> None:
        self._heads, self._live = heads, live
        sizes = [np.diff(of) for of in starts]
        self.sizes: Numbers = np.concatenate([np.zeros(0, np.int64), *sizes])
        self._bounds = np.cumsum([len(of) for of in sizes])[:-1]
        self._whole = np.repeat(~np.array(has_structure, bool), [len(of) for of in sizes])
        self.drawn = evenly_drawn(live, REFERENCE_CHUNKS)
        self._pool = open_pool(self._by_shard(self.drawn)) if sizes else None

    @property
    def is_exact(self) -> bool:
        """Whether no segment has a structure."""
        return bool(np.all(self._whole))

    def exact(self, queries: Floats) -> LegScores:
        """The score of every chunk, by `[R, H·d]` queries."""
        if self._pool is None:
            return complete_scores(np.zeros(0, np.float32), self._live)
        best = np.concatenate(self._pool.map(KeyShard.best_of_all, self._each(queries)), axis=2)
        scores = stand_out_scores(best, reference_of(best[..., self.drawn]))
        return complete_scores(scores, self._live, int(self.sizes.sum()))

    def approximate(
        self,
        queries: Floats,
        allowed: Mask,
        others: Numbers,
        candidates: int = CANDIDATES,
        effort: float = 1.0,
    ) -> LegScores:
        """The scores of the chunks that the structures find; some segment has one.

        Args:
            queries: `[R, H·d]`. allowed: `[C]`, the chunks that may be hits.
            others: chunks that are scored in any case, because other legs rank them high.
            candidates: how many of the chunks that were found are read whole.
            effort: a factor of how much the structures read; a condition that few chunks meet
                raises it, since most of what is found is then left out.
        """
        assert self._pool is not None
        asked = self._each(queries)
        best = np.concatenate(self._pool.map(KeyShard.best_of_drawn, asked), axis=2)
        reference = reference_of(best)
        values = np.zeros(len(self._live), np.float32)
        values[self.drawn] = stand_out_scores(best, reference)
        chosen, compared = self._whole.copy(), 0
        chosen[others] = True
        if self.sizes[allowed].sum() <= FEW_KEYS:
            chosen |= allowed
        else:
            wanted = effort * min(MAX_EFFORT, self._live.sum() / max(1, allowed.sum()))
            promise, compared = self._promises(queries, reference, wanted)
            is_open = allowed & ~chosen & (promise > 0)
            chosen[top_indexes(promise, is_open, candidates)] = True
        unread = chosen & ~self.drawn
        parts = self._pool.map(KeyShard.best_of, asked, self._by_shard(unread))
        values[unread] = stand_out_scores(np.concatenate(parts, axis=2), reference)
        keys_read = int(self.sizes[chosen | self.drawn].sum())
        return partial_scores(values, self._live, chosen, self.drawn, keys_read + compared)

    def _promises(self, queries: Floats, reference: Reference, effort: float) -> tuple[Floats, int]:
        """What each chunk promises, `[C]`, and keys and centroids compared with each query."""
        assert self._pool is not None
        asked = (self._each(part) for part in (queries, reference, effort))
        promises, reads = zip(*self._pool.map(KeyShard.promises, *asked), strict=True)
        compared = round(sum(reads) / max(1, len(queries) * self._heads))
        return np.concatenate(promises), compared

    def _by_shard(self, chunks: Mask) -> list[Numbers]:
        """The numbers of chunks within each segment."""
        return [np.flatnonzero(own) for own in np.split(chunks, self._bounds)]

    def _each(self, value: Any) -> list[Any]:
        """The same argument for every shard."""
        return [value] * (len(self._bounds) + 1)


def evenly_drawn(live: Mask, count: int) -> Mask:
    """At most so many live chunks, evenly drawn."""
    numbers = np.flatnonzero(live)
    if len(numbers) <= count:
        return live
    drawn = np.zeros_like(live)
    drawn[numbers[np.linspace(0, len(numbers) - 1, count).astype(np.int64)]] = True
    return drawn
