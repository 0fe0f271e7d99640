"""An index over a corpus, as readers see it: one state, whole, until they ask for a newer one.

question ─┬─ terms ───► BM25 ─────────────────┐
          ├─ queries ─► keys, late interaction ┼─ fused ─ allowed by `where`? ─► hits
          └─ vector ──► cosine (optional) ─────┘
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tamis.probes.errors import BadInput
from tamis.retrieval.index.filters import MetadataCondition, parse_conditions
from tamis.retrieval.index.hit import Hit as Hit
from tamis.retrieval.index.models import QuestionModels
from tamis.retrieval.index.rank_fusion import (
    RANK_DEPTH,
    FusionRule,
    Mask,
    ScoreArray,
    top_indexes,
    fuse_reciprocal_ranks,
    fuse_standard_scores,
)
from tamis.retrieval.keys.late_interaction import max_similarities, inner_products, chunk_scores
from tamis.retrieval.keys.recipe import KeyRecipe
from tamis.retrieval.storage.chunks import chunk_id
from tamis.retrieval.storage.manifest import Manifest
from tamis.retrieval.storage.postings import bm25, index_terms
from tamis.retrieval.storage.segment import Segment
from tamis.retrieval.storage.snapshot import open_newest
from tamis.retrieval.storage.verification import MISMATCH

LEGS = ("bm25", "keys", "vectors")


class CorpusIndex:
    """One state of an index on disk. Threads may share it; `refreshed` gives a newer state."""

    def __init__(
        self, home: Path, manifest: Manifest, segments: Sequence[Segment], models: QuestionModels
    ) -> None:
        self.home, self.manifest, self.models = home, manifest, models
        self._segments = tuple(segments)
        self._bounds = np.cumsum([0, *(of.card.chunks for of in segments)])

    @classmethod
    def open(
        cls, home: str | Path, *, proxy: Any = None, encoder: Any = None, root: Path | None = None
    ) -> CorpusIndex:
        """Opens an index; arrays are memory-mapped and models loaded when first used.

        Args:
            home: the folder.
            proxy: a loaded `Proxy`, or the name or folder of one, instead of the one of the
                manifest; it has to be the same model.
            encoder: likewise, for sentence vectors.
            root: the folder models are kept in; by default the user's cache.

        Raises:
            BadInput: there is no index. BadIndex: it is damaged.
        """
        return cls(Path(home), *open_newest(Path(home)), QuestionModels(proxy, encoder, root))

    def refreshed(self) -> CorpusIndex:
        """This, or the state that was committed since; models are shared."""
        if Manifest.read(self.home) == self.manifest:
            return self
        return CorpusIndex(self.home, *open_newest(self.home), self.models)

    def __len__(self) -> int:
        """How many chunks live."""
        return sum(int(segment.live.sum()) for segment in self._segments)

    @property
    def legs(self) -> tuple[str, ...]:
        """What this index can be searched by."""
        of = self.manifest.settings
        has = {"bm25": True, "keys": of.keys is not None, "vectors": of.vectors is not None}
        return tuple(leg for leg in LEGS if has[leg])

    def search(
        self,
        question: str,
        k: int = 10,
        where: Mapping[str, Any] | Sequence[str] | str | None = None,
        *,
        by: Sequence[str] | None = None,
        fuse: FusionRule = "standard",
        weights: Mapping[str, float] | None = None,
    ) -> list[Hit]:
        """The best chunks for a question, best first; fewer than k where no more are allowed.

        Args:
            where: conditions on metadata, all of which hits meet: see `retrieval/index/filters.py`.
            by: the legs to search by; by default all that the index has.
            fuse: `standard` adds standard scores up, `ranks` reciprocal ranks.
            weights: of the legs in that sum; 1 where none is given.

        Raises:
            BadInput: an empty question, k below 1, a leg that the index does not have.
            BadIndex: bytes that are not those that were written; nothing of them is served.
            ProxyMissing: the model that reads questions is not on this machine.
        """
        k = _check_k(k)
        allowed = self._allowed(parse_conditions(where))
        scored = self.scores(question, by)
        fused = self.fused(scored, fuse, weights, max(RANK_DEPTH, k), allowed)
        if tuple(scored) == ("bm25",):  # a chunk that shares no word with the question is no find
            allowed = allowed & (fused > 0)
        elif fuse == "ranks" and len(scored) > 1:  # nor is one that no leg ranked
            allowed = allowed & (fused != 0)
        return [
            self._hit(int(c), float(fused[c]), {leg: float(of[c]) for leg, of in scored.items()})
            for c in top_indexes(fused, allowed, k)
        ]

    def scores(self, question: str, by: Sequence[str] | None = None) -> dict[str, ScoreArray]:
        """What each leg gives every chunk, `[C]`, in the order of `chunk_documents`.

        Raises:
            As `search`.
        """
        if not isinstance(question, str) or not question.strip():
            raise BadInput("the question is empty; a search needs one")
        return {leg: getattr(self, f"_by_{leg}")(question) for leg in self._legs(by)}

    def fused(
        self,
        scored: Mapping[str, ScoreArray],
        fuse: FusionRule = "standard",
        weights: Mapping[str, float] | None = None,
        depth: int = RANK_DEPTH,
        allowed: Mask | None = None,
    ) -> ScoreArray:
        """Several legs' scores made one, `[C]`; a single leg's are as they are.

        Args:
            allowed: the chunks that ranks are counted among; by default all that live.
        """
        if fuse not in ("standard", "ranks"):
            raise BadInput(f"fuse is {fuse!r}; give 'standard' or 'ranks'")
        if len(scored) == 1:
            return next(iter(scored.values()))
        if fuse == "ranks":
            ranked = self._live() if allowed is None else allowed
            return fuse_reciprocal_ranks(scored, ranked, depth, weights or {})
        return fuse_standard_scores(scored, self._live(), weights or {})

    def chunk_documents(self) -> list[str | None]:
        """The document of each chunk; None for those that were deleted."""
        ids: list[str | None] = []
        for segment in self._segments:
            names = [record["id"] for record in segment.documents()]
            owners = zip(segment.chunk_docs, segment.live, strict=True)
            ids += [names[d] if alive else None for d, alive in owners]
        return ids

    def documents(self) -> Iterator[dict[str, Any]]:
        """The living documents: `id`, `title`, `metadata`."""
        for segment in self._segments:
            for number, record in enumerate(segment.documents()):
                if number not in segment.deleted_docs:
                    yield {key: record[key] for key in ("id", "title", "metadata")}

    def stats(self) -> dict[str, Any]:
        """How much there is, and what it takes."""
        cards = [segment.card for segment in self._segments]
        recipe = self.manifest.settings.keys or {}
        dead = sum(len(segment.deleted_docs) for segment in self._segments)
        return {
            "folder": str(self.home),
            "generation": self.manifest.generation,
            "complete": self.manifest.complete,
            "documents": sum(card.documents for card in cards) - dead,
            "chunks": len(self),
            "characters": sum(card.chars for card in cards),
            "tokens": sum(card.tokens for card in cards),
            "segments": len(cards),
            "documents_deleted": dead,
            "bytes": sum(file.size for card in cards for file in card.files),
            "legs": list(self.legs),
            "proxy": recipe.get("model"),
            "heads": recipe.get("heads"),
            "language": self.manifest.settings.language,
            "chunk_chars": self.manifest.settings.chunk_chars,
            "tamis": self.manifest.tamis,
        }

    def verify(self) -> list[str]:
        """Reads every byte of this state; the faults found, each with its file. None: all is whole.

        A writer may have merged since: the files of this state are read through the handles that
        it holds. `retrieval/storage/verification.py` reads those that lie on disk now.
        """
        return [
            f"{guard.card.path}: {MISMATCH}"
            for segment in self._segments
            for guard in segment.files.values()
            if not guard.is_intact()
        ]

    def close(self) -> None:
        """Lets the files go."""
        for segment in self._segments:
            segment.close()

    def _legs(self, by: Sequence[str] | None) -> tuple[str, ...]:
        wanted = self.legs if by is None else tuple(dict.fromkeys(by))
        if not wanted or (missing := [leg for leg in wanted if leg not in self.legs]):
            raise BadInput(
                f"this index cannot be searched by {missing if wanted else 'nothing'}; "
                f"it has {', '.join(self.legs)}"
            )
        return wanted

    def _allowed(self, wanted: Sequence[MetadataCondition]) -> Mask:
        """Which chunks live and meet every condition: `[C]`."""
        masks = []
        for segment in self._segments:
            mask = segment.live
            if wanted:
                met = np.array([_meets_all(doc, wanted) for doc in segment.documents()], dtype=bool)
                mask = mask & met[segment.chunk_docs]
            masks.append(mask)
        return np.concatenate(masks) if masks else np.zeros(0, bool)

    def _by_bm25(self, question: str) -> ScoreArray:
        terms = index_terms(question, self.manifest.settings.language)
        segments = self._segments
        found = bm25([s.postings for s in segments], [s.live for s in segments], terms)
        return np.concatenate(found) if found else np.zeros(0, np.float32)

    def _by_keys(self, question: str) -> ScoreArray:
        recipe = KeyRecipe.from_json(self.manifest.settings.keys or {})
        queries = self.models.key_encoder(recipe).question(question)
        parts = [of for segment in self._segments if (of := segment.keys()) is not None]
        if not parts:
            return np.zeros(0, np.float32)
        found = [max_similarities(queries, *of, heads=len(recipe.heads)) for of in parts]
        return chunk_scores(np.concatenate(found, axis=2), self._live())

    def _live(self) -> Mask:
        masks = [segment.live for segment in self._segments]
        return np.concatenate(masks) if masks else np.zeros(0, bool)

    def _by_vectors(self, question: str) -> ScoreArray:
        encoder = self.models.encoder(self.manifest.settings.vectors or "")
        asked = encoder.encode([question])[0]
        parts = [of for segment in self._segments if (of := segment.vectors()) is not None]
        found = [inner_products(of, asked) for of in parts]
        return np.concatenate(found) if found else np.zeros(0, np.float32)

    def _hit(self, chunk: int, score: float, scores: Mapping[str, float]) -> Hit:
        s = int(np.searchsorted(self._bounds, chunk, "right")) - 1
        segment, number = self._segments[s], chunk - int(self._bounds[s])
        record = segment.chunks[number]
        doc = segment.docs[int(segment.chunk_docs[number])]
        start, stop = record["start"], record["stop"]
        return Hit(
            chunk_id(doc["id"], start, stop),
            doc["id"],
            record["text"],
            start,
            stop,
            score,
            doc["metadata"],
            doc["title"],
            record["heading"],
            scores,
        )


def _check_k(k: Any) -> int:
    try:
        found = operator.index(k)
    except TypeError as error:
        raise BadInput(f"k is {k!r}; give a whole number of hits") from error
    if found < 1:
        raise BadInput(f"k is {found}; ask for at least 1 hit")
    return found


def _meets_all(document: Mapping[str, Any], wanted: Sequence[MetadataCondition]) -> bool:
    known = {**document["metadata"], "id": document["id"]}  # the document's own come first
    if document["title"] is not None:
        known["title"] = document["title"]
    return all(condition.is_met_by(known) for condition in wanted)
