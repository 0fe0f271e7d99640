"""The leg of attention keys: late interaction with every chunk, or with those that promise most.

                     ┌ segment without a structure ──────► every chunk read ┐
query vectors ───────┼ graph or ivf: keys ─► their chunks ─► best promise ──┼─► chunks read whole
                     └ chunks that other legs rank high ────────────────────┘    late interaction

Every search compares a chunk with the same `REFERENCE_CHUNKS` chunks, so that a chunk that was read
has the score of an exact search; what an approximate search can miss is a chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis.probes.interruption import check_interruption
from tamis.retrieval.approximate.types import KeySearch
from tamis.retrieval.index.leg_scores import LegScores, complete_scores, partial_scores
from tamis.retrieval.keys.late_interaction import (
    SCALE,
    Floats,
    Reference,
    max_similarities,
    reference_of,
    stand_out_scores,
)
from tamis.retrieval.storage.postings import Mask

REFERENCE_CHUNKS = 512
CANDIDATES = 96
"""Chunks that an approximate search reads whole, beside those that other legs rank high."""
FEW_KEYS = 1 << 17
"""If the chunks that a condition allows have no more keys than this, all of them are read."""
MAX_EFFORT = 8.0
Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class KeySegment:
    """Keys of a segment, where each chunk's begin, and the structures by head; none if exact."""

    keys: NDArray[Any]
    starts: NDArray[Any]
    searches: Sequence[KeySearch]


def reference_chunks(live: Mask) -> Mask:
    """The chunks that others are compared with: at most so many live ones, evenly drawn."""
    numbers = np.flatnonzero(live)
    if len(numbers) <= REFERENCE_CHUNKS:
        return live
    drawn = np.zeros_like(live)
    drawn[numbers[np.linspace(0, len(numbers) - 1, REFERENCE_CHUNKS).astype(np.int64)]] = True
    return drawn


def exact_key_scores(
    segments: Sequence[KeySegment], queries: Floats, heads: int, live: Mask
) -> LegScores:
    """The score of every chunk.

    Args:
        queries: `[R, H·d]`. live: `[C]`, over the chunks of all segments.
    """
    if not segments:
        return complete_scores(np.zeros(0, np.float32), live)
    parts = [max_similarities(queries, s.keys, s.starts, heads) for s in segments]
    best = np.concatenate(parts, axis=2)
    scores = stand_out_scores(best, reference_of(best[..., reference_chunks(live)]))
    return complete_scores(scores, live, sum(len(s.keys) for s in segments))


def approximate_key_scores(
    segments: Sequence[KeySegment],
    queries: Floats,
    heads: int,
    live: Mask,
    allowed: Mask,
    others: Numbers,
    candidates: int = CANDIDATES,
    effort: float = 1.0,
) -> LegScores:
    """The scores of the chunks that the segments' structures find.

    Args:
        allowed: `[C]`, the chunks that may be hits.
        others: chunks that are scored in any case, because other legs rank them high.
        candidates: how many of the chunks that were found are read whole.
        effort: a factor of how much the structures read; a condition that few chunks meet raises
            it, since most of what is found is then left out.
    """
    reader = _ChunkReader(segments, queries, heads)
    drawn = reference_chunks(live)
    best = reader.read(np.flatnonzero(drawn))
    reference = reference_of(best)
    values = np.zeros(len(live), np.float32)
    values[drawn] = stand_out_scores(best, reference)
    chosen = _whole_segments(segments)
    chosen[others] = True
    if reader.sizes[allowed].sum() <= FEW_KEYS:
        chosen |= allowed
    else:
        wanted = effort * min(MAX_EFFORT, live.sum() / max(1, allowed.sum()))
        promise = _promises(segments, reader, reference, wanted)
        promise[~allowed | chosen] = 0
        top = np.argsort(-promise, kind="stable")[:candidates]
        chosen[top[promise[top] > 0]] = True
    unread = np.flatnonzero(chosen & ~drawn)
    values[unread] = stand_out_scores(reader.read(unread), reference)
    return partial_scores(values, live, chosen, drawn, reader.keys_read)


def _whole_segments(segments: Sequence[KeySegment]) -> Mask:
    """The chunks of segments that have no structure."""
    return np.concatenate([np.full(len(s.starts) - 1, not s.searches) for s in segments])


def _promises(
    segments: Sequence[KeySegment], reader: _ChunkReader, reference: Reference, effort: float
) -> Floats:
    """A lower bound of each chunk's score, by the keys that the structures find: `[C]`."""
    queries = np.split(reader.queries / np.float32(SCALE), reader.heads, axis=1)
    promise = np.zeros(len(reader.sizes), np.float32)
    for segment, base in zip(segments, reader.bounds[:-1], strict=True):
        for head, search in enumerate(segment.searches):
            check_interruption()
            found = search.find(queries[head], effort)
            reader.compared += found.read
            chunks = base + np.searchsorted(segment.starts, found.keys, "right") - 1
            above = found.scores - reference.mean[head, found.rows, 0]
            kept = above > 0
            gain = above[kept] ** 2 / reference.spread[head, found.rows[kept], 0]
            _add_best(promise, found.rows[kept], chunks[kept], gain)
    return promise


def _add_best(promise: Floats, rows: Numbers, chunks: Numbers, gain: Floats) -> None:
    """Adds to each chunk its largest gain of each row."""
    order = np.lexsort((gain, rows, chunks))
    rows, chunks, gain = rows[order], chunks[order], gain[order]
    is_last = np.ones(len(order), bool)
    is_last[:-1] = (rows[1:] != rows[:-1]) | (chunks[1:] != chunks[:-1])
    np.add.at(promise, chunks[is_last], gain[is_last])


class _ChunkReader:
    """Reads whole chunks of all segments, and counts the inner products of a search.

    Attributes:
        sizes: `[C]`, the keys of each chunk. bounds: the first chunk of each segment.
        compared: inner products with keys and centroids that structures computed.
    """

    def __init__(self, segments: Sequence[KeySegment], queries: Floats, heads: int) -> None:
        self._segments, self.queries, self.heads = segments, queries, heads
        self.sizes = np.concatenate([np.diff(s.starts) for s in segments])
        self.bounds = np.cumsum([0, *(len(s.starts) - 1 for s in segments)])
        self.compared, self._keys_read = 0, 0

    @property
    def keys_read(self) -> int:
        """Keys and centroids that each query vector was compared with, on average."""
        return self._keys_read + round(self.compared / max(1, len(self.queries) * self.heads))

    def read(self, chunks: Numbers) -> Floats:
        """The largest inner product of each query with each of the chunks: `[H, R, K]`."""
        if not len(chunks):
            return np.zeros((self.heads, len(self.queries), 0), np.float32)
        rows = [np.zeros((0, self.queries.shape[1]), np.int8)]
        for segment, base, stop in zip(
            self._segments, self.bounds[:-1], self.bounds[1:], strict=True
        ):
            own = chunks[(chunks >= base) & (chunks < stop)] - base
            ends = zip(segment.starts[own].tolist(), segment.starts[own + 1].tolist(), strict=True)
            rows += [segment.keys[first:last] for first, last in ends]
        starts = np.cumsum([0, *self.sizes[chunks]])
        self._keys_read += int(starts[-1])
        return max_similarities(self.queries, np.concatenate(rows), starts, self.heads)
