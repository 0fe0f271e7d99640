"""The legs of a search: BM25, attention keys and sentence vectors, each with a score a chunk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from tamis.probes.errors import BadInput
from tamis.probes.interruption import check_interruption
from tamis.retrieval.approximate.segment_search import (
    check_kind,
    kind_for,
    structure_kind,
)
from tamis.retrieval.index.key_leg import CANDIDATES, KeyLeg
from tamis.retrieval.index.key_shards import LocalShards, Numbers, ShardPool, open_shard
from tamis.retrieval.index.leg_scores import LegScores, complete_scores, top_indexes
from tamis.retrieval.index.models import QuestionModels
from tamis.retrieval.keys.late_interaction import inner_products
from tamis.retrieval.keys.recipe import KeyRecipe
from tamis.retrieval.storage.manifest import IndexSettings
from tamis.retrieval.storage.postings import Mask, ScoreArray, bm25, index_terms
from tamis.retrieval.storage.segment import Segment

LEGS = ("bm25", "keys", "vectors")
"""The ways of scoring that a search may combine."""
SearchEngine = Literal["local", "ray"]
"""Where keys are searched: in this process, or on a Ray cluster, an actor a segment."""
OTHERS_DEPTH = 64
"""How many of the best chunks of the other legs an approximate search of keys reads, at least."""


class Legs:
    """Scores the chunks of an index, segment after segment in their order.

    Args:
        engine: where keys are searched, see `retrieval/index/key_shards.py`.
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
            search: how keys are searched: `auto`, `exact`, `graph` or `ivf`.
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
        for segment in self._segments:
            kind, keys = structure_kind(segment.files), segment.entry.tokens
            if kind != search and (kind != "exact" or kind_for(search, keys) != "exact"):
                raise BadInput(
                    f"segment {segment.entry.name} ({keys:,} keys) has no {search}; build it with "
                    f"`tamis index optimise INDEX --search {search}`, or search with 'auto'"
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
        self,
        question: str,
        search: str,
        allowed: Mask,
        depth: int,
        scored: Mapping[str, LegScores],
    ) -> LegScores:
        recipe = KeyRecipe.from_json(self._settings.keys or {})
        queries = self._models.key_encoder(recipe).encode_question(question)
        if search == "exact" or self._key_leg.is_exact:
            return self._key_leg.exact(queries)
        others = [
            top_indexes(leg.values, allowed & (leg.values > 0), max(OTHERS_DEPTH, depth))
            for leg in scored.values()
        ]
        return self._key_leg.approximate(
            queries,
            allowed,
            np.unique(np.concatenate([np.zeros(0, np.int64), *others])),
            max(CANDIDATES, 2 * depth),
        )

    @cached_property
    def _key_leg(self) -> KeyLeg:
        heads = len((self._settings.keys or {})["heads"])
        own = [segment for segment in self._segments if "keys.npy" in segment.files]
        return KeyLeg(
            [segment.files["key_starts.npy"].array() for segment in own],
            [structure_kind(segment.files) != "exact" for segment in own],
            heads,
            self.live,
            partial(self._open_shards, own, heads),
        )

    def _open_shards(
        self, segments: Sequence[Segment], heads: int, drawn: list[Numbers]
    ) -> ShardPool:
        if self._engine == "ray":
            from tamis.retrieval.index.key_shards import RayShards

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
