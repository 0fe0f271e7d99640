"""The legs of a search: BM25, attention keys and sentence vectors, each with a score a chunk.

The leg of attention keys is late interaction with every chunk, or with those that promise most:

                     ┌ segment without a structure ──────► every chunk read ┐
query vectors ───────┼ graph: keys ─► their chunks ─► best promise ─────────┼─► chunks read whole
                     └ chunks that other legs rank high ────────────────────┘    late interaction

Every search of an index compares a chunk with the same: with what was fitted where structures were
built, else with the same `REFERENCE_CHUNKS` chunks. So a chunk that was read has the score of an
exact search, and what an approximate search can miss is a chunk.

Keys are read shard by shard, a segment each: in this process, or on a Ray cluster, where actors
read them in their own memory and on their own processors, and every machine opens the index under
the same path. Words, fusion and texts stay with the process that searches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from tamis.probes.errors import BadInput
from tamis.probes.extras import connect_to_ray
from tamis.probes.interruption import check_interruption
from tamis.retrieval.approximate.segment_search import (
    check_kind,
    has_floor,
    kind_for,
    open_structures,
    read_floor,
    structure_kind,
)
from tamis.retrieval.approximate.types import KeySearch
from tamis.retrieval.index.models import QuestionModels
from tamis.retrieval.keys.late_interaction import (
    SCALE,
    FittedFloor,
    Floats,
    Reference,
    inner_products,
    join_references,
    max_similarities,
    mean_spread,
    reference_of,
    stand_out_scores,
)
from tamis.retrieval.keys.recipe import KeyRecipe
from tamis.retrieval.storage.manifest import IndexSettings, SegmentEntry
from tamis.retrieval.storage.postings import Mask, ScoreArray, bm25, index_terms
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
            # to each chunk is added what its best found key of each query adds to its score
            kept = np.flatnonzero(found.scores > mean[found.rows])
            order = kept[np.argsort(found.keys[kept])]  # ascending: chunks are looked up in order
            chunks = np.searchsorted(self.starts, found.keys[order], "right") - 1
            rows, scores = found.rows[order], found.scores[order]
            own, places = np.unique(chunks, return_inverse=True)
            best = np.zeros((len(mean), len(own)), np.float32)
            above = scores - mean[rows]
            np.maximum.at(best, (rows, places), above * above / spread[rows])
            promise[own] += best.sum(0)
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
        BadIndex: bytes are not those that were written.
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


@dataclass(frozen=True, slots=True)
class LegScores:
    """The scores of a leg, and their distribution over all live chunks.

    Attributes:
        values: `[C]`; those of chunks that are not known say nothing.
        mean, spread: mean and standard deviation over the live chunks, estimated where some are
            not known.
        known: `[C]` bool, the chunks that were scored; None for all.
        keys_read: how many keys and centroids each query vector was compared with, on average.
    """

    values: ScoreArray
    mean: float
    spread: float
    known: Mask | None = None
    keys_read: int = 0


def complete_scores(values: ScoreArray, live: Mask, keys_read: int = 0) -> LegScores:
    """The scores of a leg that scored every chunk."""
    if not live.any():
        return LegScores(values, 0.0, 0.0, None, keys_read)
    own = values[live]
    return LegScores(values, own.mean(), own.std(), None, keys_read)


def partial_scores(
    values: ScoreArray, live: Mask, chosen: Mask, drawn: Mask, keys_read: int
) -> LegScores:
    """The scores of a leg that scored some chunks, with mean and spread of all estimated.

    Args:
        chosen: `[C]`, the chunks that were scored because they promised much.
        drawn: `[C]`, those that were scored whatever they promise; all that are not chosen are
            taken to be like those of them that are not chosen.
    """
    known = chosen | drawn
    own, others = values[live & chosen].astype(np.float64), values[live & drawn & ~chosen]
    total, rest = int(live.sum()), int((live & ~chosen).sum())
    if not total:
        return LegScores(values, 0.0, 0.0, known, keys_read)
    sums = [
        (own**power).sum()
        + (rest * (others.astype(np.float64) ** power).mean() if len(others) else 0)
        for power in (1, 2)
    ]
    mean = sums[0] / total
    spread = max(0.0, sums[1] / total - mean * mean) ** 0.5
    return LegScores(values, mean, spread, known, keys_read)


def top_indexes(scores: ScoreArray, allowed: Mask, k: int) -> NDArray[Any]:
    """Indexes of the k best allowed scores, best first; equal scores in the order of the array."""
    masked = np.where(allowed, scores, -np.inf)
    k = min(k, int(allowed.sum()))
    if k == 0:
        return np.zeros(0, np.int64)
    lowest = np.partition(masked, len(masked) - k)[len(masked) - k]
    candidates = np.flatnonzero(masked >= lowest)
    return candidates[np.argsort(-masked[candidates], kind="stable")][:k]


def fuse_standard_scores(legs: Mapping[str, LegScores]) -> ScoreArray:
    """The sum of the legs' standard scores, `[C]`; the scores of a single leg stay as they are.

    Args:
        legs: at least one; a leg whose scores are all equal adds nothing.
    """
    first, *others = legs.values()
    if not others:
        return first.values
    fused = np.zeros_like(first.values)
    for leg in legs.values():
        if leg.spread > 0:
            fused += (leg.values - leg.mean) / leg.spread
    return fused


REFERENCE_CHUNKS = 512
"""The chunks that others are compared with where no floor was fitted."""
CANDIDATES = 64
"""Chunks that an approximate search reads whole, beside those that other legs rank high."""
FEW_KEYS = 1 << 17
"""If the chunks that a condition allows have no more keys than this, all of them are read."""
MAX_EFFORT = 8.0


@dataclass(frozen=True, slots=True)
class PredictedFloor:
    """What a question's chunks are compared with, without reading any.

    Attributes:
        mean, spread: of the scores of all chunks. anchors: keys that each query was compared with.
    """

    reference: Reference
    mean: float
    spread: float
    anchors: int

    def leg_scores(self, values: ScoreArray, known: Mask | None, keys_read: int) -> LegScores:
        """The scores of a leg that were computed with it."""
        return LegScores(values, self.mean, self.spread, known, keys_read)


class KeyLeg:
    """The keys of one state of an index, segment after segment. Threads may share it.

    Args:
        starts: of each segment, where the keys of its chunks begin, `[C + 1]`.
        has_structure: by segment; without one, every key of a segment is read.
        has_floor: by segment. If each segment with a structure has one, no chunk is drawn: chunks
            are compared with what these predict.
        live: `[C]`, over the chunks of all segments.
        open_pool: opens the shards, given the chunks of each that others are compared with.

    Attributes:
        sizes: `[C]`, the keys of each chunk.
        drawn: `[C]`, the chunks that others are compared with: live ones, evenly drawn; none if
            floors were fitted.
    """

    def __init__(
        self,
        starts: Sequence[NDArray[Any]],
        has_structure: Sequence[bool],
        has_floor: Sequence[bool],
        heads: int,
        live: Mask,
        open_pool: Callable[[list[Numbers]], LocalShards | RayShards],
    ) -> None:
        self._heads, self._live = heads, live
        sizes = [np.diff(of) for of in starts]
        self.sizes: Numbers = np.concatenate([np.zeros(0, np.int64), *sizes])
        self._bounds = np.cumsum([len(of) for of in sizes])[:-1]
        self._whole = np.repeat(~np.array(has_structure, bool), [len(of) for of in sizes])
        owned = [floor for floor, own in zip(has_floor, has_structure, strict=True) if own]
        self._is_fitted = any(has_floor) and all(owned)
        self.drawn = evenly_drawn(live, 0 if self._is_fitted else REFERENCE_CHUNKS)
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
        keys_read = int(self.sizes.sum())
        if self._is_fitted:
            floor = self._predict_floor(queries)
            scores = stand_out_scores(best, floor.reference)
            return floor.leg_scores(scores, None, keys_read)
        scores = stand_out_scores(best, reference_of(best[..., self.drawn]))
        return complete_scores(scores, self._live, keys_read)

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
        values = np.zeros(len(self._live), np.float32)
        if self._is_fitted:
            floor = self._predict_floor(queries)
            reference = floor.reference
        else:
            best = np.concatenate(self._pool.map(KeyShard.best_of_drawn, asked), axis=2)
            reference = reference_of(best)
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
        keys_read = compared + int(self.sizes[chosen | self.drawn].sum())
        if self._is_fitted:
            return floor.leg_scores(values, chosen, keys_read + floor.anchors)
        return partial_scores(values, self._live, chosen, self.drawn, keys_read)

    def _predict_floor(self, queries: Floats) -> PredictedFloor:
        """What the floors of segments predict together, each for as many chunks as it has."""
        assert self._pool is not None
        found = self._pool.map(KeyShard.predict, self._each(queries))
        sizes = [len(of) for of in np.split(self.sizes, self._bounds)]
        own = [(size, of) for size, of in zip(sizes, found, strict=True) if of]
        shares = np.array([size for size, _ in own]) / sum(size for size, _ in own)
        references, scales, anchors = zip(*(of for _, of in own), strict=True)
        reference = join_references(references, shares.tolist())
        mean, spread = (shares @ np.array(scales) * mean_spread(reference)).tolist()
        return PredictedFloor(reference, mean, spread, sum(anchors))

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


LEGS = ("bm25", "keys", "vectors")
"""The ways of scoring that a search may combine."""
SearchEngine = Literal["local", "ray"]
"""Where keys are searched: in this process, or on a Ray cluster, an actor a segment."""
OTHERS_DEPTH = 32
"""How many of the best chunks of the other legs an approximate search of keys reads, at least."""


def candidates_beside(others: int) -> int:
    """How many chunks to read whole for what they promise, beside so many of other legs."""
    return max(CANDIDATES, CANDIDATES + OTHERS_DEPTH - others)


class Legs:
    """Scores the chunks of an index, segment after segment in their order.

    Args:
        engine: where keys are searched.
    """

    def __init__(
        self,
        home: Path,
        settings: IndexSettings,
        segments: Sequence[Segment],
        models: QuestionModels,
        engine: SearchEngine,
    ) -> None:
        if engine not in get_args(SearchEngine):
            raise BadInput(f"there is no engine {engine!r}; choose from local, ray")
        self._home, self._engine = home, engine
        self._settings, self._segments, self._models = settings, tuple(segments), models
        masks = [segment.live for segment in segments]
        self.live: Mask = np.concatenate(masks) if masks else np.zeros(0, bool)

    @property
    def names(self) -> tuple[str, ...]:
        """The legs that the index has."""
        has = {
            "bm25": True,
            "keys": self._settings.keys is not None,
            "vectors": self._settings.vectors is not None,
        }
        return tuple(leg for leg in LEGS if has[leg])

    def score(
        self, question: str, by: Sequence[str] | None, search: str, allowed: Mask, depth: int
    ) -> dict[str, LegScores]:
        """The scores of each leg.

        Args:
            search: how keys are searched: `auto`, `exact` or `graph`.
            allowed: `[C]`, the chunks that may be hits.
            depth: how many hits are wanted.

        Raises:
            BadInput: an empty question, or a leg or a search that the index does not have.
        """
        if not isinstance(question, str) or not question.strip():
            raise BadInput("the question is empty; a search needs one")
        legs = self._choose(by)
        self._check_search(search, legs)
        scored: dict[str, LegScores] = {}
        if "bm25" in legs:
            scored["bm25"] = complete_scores(self._bm25(question), self.live)
        check_interruption()
        if "vectors" in legs:
            scored["vectors"] = complete_scores(self._vectors(question), self.live)
        check_interruption()
        if "keys" in legs:
            scored["keys"] = self._keys(question, search, allowed, depth, scored)
        return {leg: scored[leg] for leg in legs}

    def _check_search(self, search: str, legs: Sequence[str]) -> None:
        """Refuses a search that the index was not built for.

        Raises:
            BadInput: with the command that builds it.
        """
        check_kind(search)
        if search in ("auto", "exact"):
            return
        if "keys" not in legs:
            raise BadInput(f"search={search!r} is a search of keys, and this one is by {legs}")
        kinds = [structure_kind(segment.files) for segment in self._segments]
        for segment, kind in zip(self._segments, kinds, strict=True):
            # what was added to an index that has the structure is read whole until it is large
            is_small = search in kinds and kind == "exact"
            if kind != search and not (is_small and kind_for("auto", segment.entry.tokens) == kind):
                raise BadInput(
                    f"segment {segment.entry.name} ({segment.entry.tokens:,} keys) has no "
                    f"{search}; build it with `tamis index optimise INDEX --search {search}`, or "
                    "search with 'auto'"
                )

    def _choose(self, by: Sequence[str] | None) -> tuple[str, ...]:
        wanted = self.names if by is None else tuple(dict.fromkeys(by))
        if not wanted or (missing := [leg for leg in wanted if leg not in self.names]):
            raise BadInput(
                f"this index cannot be searched by {missing if wanted else 'nothing'}; "
                f"it has {', '.join(self.names)}"
            )
        return wanted

    def _bm25(self, question: str) -> ScoreArray:
        terms = index_terms(question, self._settings.language)
        segments = self._segments
        parts = bm25([s.postings for s in segments], [s.live for s in segments], terms)
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def _keys(
        self, question: str, search: str, allowed: Mask, depth: int, scored: Mapping[str, LegScores]
    ) -> LegScores:
        recipe = KeyRecipe.from_json(self._settings.keys or {})
        queries = self._models.key_encoder(recipe).encode_question(question)
        if search == "exact" or self._key_leg.is_exact:
            return self._key_leg.exact(queries)
        others = [
            top_indexes(leg.values, allowed & (leg.values > 0), max(OTHERS_DEPTH, depth))
            for leg in scored.values()
        ]
        known = np.unique(np.concatenate([np.zeros(0, np.int64), *others]))
        return self._key_leg.approximate(
            queries, allowed, known, max(candidates_beside(len(known)), 2 * depth)
        )

    @cached_property
    def _key_leg(self) -> KeyLeg:
        heads = len((self._settings.keys or {})["heads"])
        own = [segment for segment in self._segments if "keys.npy" in segment.files]
        return KeyLeg(
            [segment.files["key_starts.npy"].array() for segment in own],
            [structure_kind(segment.files) != "exact" for segment in own],
            [has_floor(segment.files) for segment in own],
            heads,
            self.live,
            partial(self._open_shards, own, heads),
        )

    def _open_shards(
        self, segments: Sequence[Segment], heads: int, drawn: list[Numbers]
    ) -> LocalShards | RayShards:
        if self._engine == "ray":
            return RayShards(self._home, [segment.entry for segment in segments], heads, drawn)
        pairs = zip(segments, drawn, strict=True)
        return LocalShards([open_shard(segment, heads, chunks) for segment, chunks in pairs])

    def _vectors(self, question: str) -> ScoreArray:
        encoder = self._models.encoder(self._settings.vectors or "")
        query = encoder.encode([question])[0]
        parts = [part for segment in self._segments if (part := segment.vectors()) is not None]
        scores = [inner_products(part, query) for part in parts]
        check_interruption()
        return np.concatenate(scores) if scores else np.zeros(0, np.float32)
