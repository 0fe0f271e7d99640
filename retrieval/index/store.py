"""Searching an index over a corpus: one consistent state of it, until a newer one is opened.

question ─┬─ terms ───► BM25 ──────────────────┐
          ├─ queries ─► keys, late interaction ┼─ fused ─ allowed by `where`? ─► hits
          └─ vector ──► cosine (optional) ─────┘
"""

from __future__ import annotations

import logging
import operator
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tamis.probes.errors import BadInput
from tamis.probes.interruption import check_interruption
from tamis.retrieval.approximate.segment_search import structure_kind
from tamis.retrieval.index.filters import MetadataCondition, meets_all, parse_conditions
from tamis.retrieval.index.legs import (
    Legs,
    LegScores,
    SearchEngine,
    fuse_standard_scores,
    top_indexes,
)
from tamis.retrieval.index.models import QuestionModels
from tamis.retrieval.storage.chunks import chunk_id, title_line
from tamis.retrieval.storage.kept_windows import kept_bytes
from tamis.retrieval.storage.manifest import Manifest
from tamis.retrieval.storage.postings import Mask
from tamis.retrieval.storage.segment import MISMATCH, Segment, file_fault, open_snapshot
from tamis.text.types import Piece

log = logging.getLogger("tamis")

_COMPARED_AT_A_TIME = 1_000
"""Documents with conditions."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One chunk that was found: `text` is code points `[start, stop)` of document `doc`.

    Attributes:
        id: of the chunk, `doc#start-stop`; it stays the same as long as the document's text does.
        score: for ranking the hits of this search only. scores: the score of each leg.
        title, heading: of the document, and of the section that the chunk belongs to.
        pieces: its units as those of the whole document, where its text alone is read otherwise.
    """

    id: str
    doc: str
    text: str
    start: int
    stop: int
    score: float
    metadata: Mapping[str, Any]
    title: str | None = None
    heading: str | None = None
    scores: Mapping[str, float] | None = None
    pieces: tuple[Piece, ...] = ()

    @property
    def title_line(self) -> str | None:
        """The line that the chunk was indexed under: title, then heading."""
        return title_line(self.title, self.heading)

    def as_json(self) -> dict[str, Any]:
        """The hit as JSON, as commands and the service give it."""
        return {
            "id": self.id,
            "document": self.doc,
            "title": self.title,
            "heading": self.heading,
            "start": self.start,
            "end": self.stop,
            "score": self.score,
            "scores": dict(self.scores or {}),
            "metadata": dict(self.metadata),
            "text": self.text,
        }


class Hits(list[Hit]):
    """The hits of one search, best first.

    Attributes:
        keys_read: how many keys, and centroids of keys, each query vector was compared with, on
            average; all keys of the index in an exact search, none in a search without keys.
    """

    def __init__(self, hits: Iterable[Hit] = (), keys_read: int = 0) -> None:
        super().__init__(hits)
        self.keys_read = keys_read


class CorpusIndex:
    """One state of an index on disk. Threads may share it; `newest` gives a newer state.

    Attributes:
        segments: in the order that chunks are numbered in.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        segments: Sequence[Segment],
        models: QuestionModels,
        engine: SearchEngine = "local",
    ) -> None:
        self.folder, self.manifest, self.models, self._engine = folder, manifest, models, engine
        self.segments = tuple(segments)
        self._bounds = np.cumsum([0, *(segment.entry.chunks for segment in segments)])
        self._legs = Legs(folder, manifest.settings, segments, models, engine)

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        proxy: Any = None,
        encoder: Any = None,
        root: Path | None = None,
        device: str = "auto",
        engine: SearchEngine = "local",
    ) -> CorpusIndex:
        """Opens an index; arrays are memory-mapped and models loaded when first used.

        Args:
            folder: of the index.
            proxy: a loaded `Proxy`, or the name or folder of one, instead of the one of the
                manifest; it has to be the same model.
            encoder: likewise, for sentence vectors.
            root: the folder that holds models; by default the user's cache.
            device: where models are loaded to, unless a loaded proxy is given: then where that is.
            engine: `local`, or `ray` to search keys on a Ray cluster, a segment an actor.

        One whose first build was cut short opens with a warning in the log.

        Raises:
            BadInput: there is no index. BadIndex: it is damaged.
        """
        models = QuestionModels(proxy, encoder, root, device)
        found = cls(Path(folder), *open_snapshot(Path(folder)), models, engine)
        if not found.manifest.complete:
            log.warning(
                "index %s lacks documents: its first build was cut short; run it again to go on",
                folder,
            )
        return found

    def newest(self) -> CorpusIndex:
        """This state, or the newest one if something was committed since; models are shared.

        This state stays open for those who search it; close it when nobody does any more.
        """
        if Manifest.read(self.folder) == self.manifest:
            return self
        return CorpusIndex(self.folder, *open_snapshot(self.folder), self.models, self._engine)

    def __len__(self) -> int:
        """How many live chunks there are."""
        return sum(int(segment.live.sum()) for segment in self.segments)

    @property
    def legs(self) -> tuple[str, ...]:
        """The ways of scoring that this index can be searched by."""
        return self._legs.names

    def search(
        self,
        question: str,
        k: int = 10,
        where: Mapping[str, Any] | Sequence[str] | str | None = None,
        *,
        by: Sequence[str] | None = None,
        search: str = "auto",
    ) -> Hits:
        """The best chunks for a question, best first; fewer than k where no more are allowed.

        Args:
            where: conditions on metadata, all of which hits meet: see `retrieval/index/filters.py`.
            by: the legs to search by; by default all that the index has.
            search: how keys are searched: `exact` reads them all; `graph` reads those that
                promise most, and needs an index that was built for it; `auto` takes what each
                segment has. A chunk that is found has the same score by each.

        Raises:
            BadInput: an empty question, k below 1, a leg or a search that the index does not have.
            BadIndex: bytes that differ from those that were written; they are never used.
            ProxyMissing: the model that encodes questions is not on this machine.
        """
        k = check_k(k)
        allowed = self._allowed_chunks(parse_conditions(where))
        scored = self.leg_scores(question, by, search, allowed, k)
        fused = fuse_standard_scores(scored)
        for leg in scored.values():
            allowed = allowed if leg.known is None else allowed & leg.known
        if tuple(scored) == ("bm25",):  # a chunk that shares no word with the question is no hit
            allowed = allowed & (fused > 0)
        best = top_indexes(fused, allowed, k)
        hits = (self._make_hit(int(c), float(fused[c]), scored) for c in best)
        return Hits(hits, sum(leg.keys_read for leg in scored.values()))

    def all_chunks(self, where: Mapping[str, Any] | Sequence[str] | str | None = None) -> Hits:
        """The chunks that meet all conditions, in order, unscored."""
        allowed = self._allowed_chunks(parse_conditions(where))
        return Hits(self._make_hit(int(c), 0.0, {}) for c in np.flatnonzero(allowed))

    def leg_scores(
        self,
        question: str,
        by: Sequence[str] | None = None,
        search: str = "auto",
        allowed: Mask | None = None,
        k: int = 10,
    ) -> dict[str, LegScores]:
        """The scores of each leg, with their distribution and the keys that were read.

        Args:
            allowed: `[C]`, the chunks that may be among the `k` hits; by default all live ones.

        Raises:
            As `search`.
        """
        wanted = self._legs.live if allowed is None else allowed
        return self._legs.score(question, by, search, wanted, k)

    def documents(self) -> Iterator[dict[str, Any]]:
        """The live documents: `id`, `title`, `metadata`."""
        for segment in self.segments:
            for number, record in enumerate(segment.documents()):
                if number not in segment.deleted_docs:
                    yield {key: record[key] for key in ("id", "title", "metadata")}

    def stats(self) -> dict[str, Any]:
        """Counts, sizes and settings of this state."""
        entries = [segment.entry for segment in self.segments]
        recipe = self.manifest.settings.keys or {}
        deleted = sum(len(segment.deleted_docs) for segment in self.segments)
        return {
            "folder": str(self.folder),
            "generation": self.manifest.generation,
            "complete": self.manifest.complete,
            "documents": sum(entry.documents for entry in entries) - deleted,
            "chunks": len(self),
            "characters": sum(entry.chars for entry in entries),
            "tokens": sum(entry.tokens for entry in entries),
            "segments": len(entries),
            "documents_deleted": deleted,
            "bytes": sum(file.size for entry in entries for file in entry.files),
            "legs": list(self.legs),
            "search": self.manifest.search,
            "searches": dict(Counter(structure_kind(segment.files) for segment in self.segments)),
            "proxy": recipe.get("model"),
            "heads": recipe.get("heads"),
            "kept_by": (self.manifest.settings.kv or {}).get("model"),
            "kept_bytes": sum(map(kept_bytes, entries)),
            "language": self.manifest.settings.language,
            "chunk_chars": self.manifest.settings.chunk_chars,
            "tamis": self.manifest.tamis,
        }

    def verify(self) -> list[str]:
        """Reads every byte of this state; the faults found, each with its file, or an empty list.

        A writer may have merged since: the files of this state are read through their open handles.
        `retrieval/storage/segment.py` reads the files that are on disk now.
        """
        faults = [
            f"{file.entry.path}: {MISMATCH}"
            for segment in self.segments
            for file in segment.files.values()
            if not file.is_intact()
        ]
        # no search reads training queries: a writer may have replaced them
        queries = self.manifest.queries
        if queries and Manifest.read(self.folder).queries == queries:
            why = file_fault(self.folder, queries)
            faults += [f"{queries.path}: {why}"] if why else []
        return faults

    def close(self) -> None:
        """Closes the files."""
        for segment in self.segments:
            segment.close()

    def _allowed_chunks(self, conditions: Sequence[MetadataCondition]) -> Mask:
        """Which chunks are live and meet every condition: `[C]`."""
        masks = []
        for segment in self.segments:
            mask = segment.live
            if conditions:
                documents = segment.documents()
                meets = np.zeros(len(documents), dtype=bool)
                for number, document in enumerate(documents):
                    if number % max(1, _COMPARED_AT_A_TIME // len(conditions)) == 0:
                        check_interruption()
                    meets[number] = meets_all(document, conditions)
                mask = mask & meets[segment.chunk_docs]
            masks.append(mask)
        return np.concatenate(masks) if masks else np.zeros(0, bool)

    def _make_hit(self, chunk: int, score: float, legs: Mapping[str, LegScores]) -> Hit:
        s = int(np.searchsorted(self._bounds, chunk, "right")) - 1
        segment, number = self.segments[s], chunk - int(self._bounds[s])
        found = segment.chunks[number]
        document = segment.docs[int(segment.chunk_docs[number])]
        scores = {name: float(leg.values[chunk]) for name, leg in legs.items()}
        return Hit(
            id=chunk_id(document["id"], found["start"], found["stop"]),
            doc=document["id"],
            score=score,
            metadata=document["metadata"],
            title=document["title"],
            scores=scores,
            pieces=tuple(
                Piece(a, b, (c, d), kind) for a, b, (c, d), kind in found.get("pieces", ())
            ),
            **{name: found[name] for name in ("text", "start", "stop", "heading")},
        )


def check_k(k: Any) -> int:
    """The number of hits as an int. BadInput: it is not a whole number, or below 1."""
    try:
        hits = operator.index(k)
    except TypeError as error:
        raise BadInput(f"k is {k!r}; give a whole number of hits") from error
    if hits < 1:
        raise BadInput(f"k is {hits}; ask for at least 1 hit")
    return hits
