"""An index exported to an engine: the engine proposes chunks, and tamis scores them.

question ─► queries ─► engine's late interaction, head by head ─► candidates ─► tamis's scores

A score adds up squares of (best inner product - mean) / sqrt(spread), query by query. The engine
cannot square; asked with queries / sqrt(spread), it ranks by the sum of what is squared. That finds
the chunks, and tamis gives them the score of a search by keys of an index without a fitted floor:
they are compared with the same chunks, which the engine has, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from importlib.metadata import version
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis.probes.errors import BadInput
from tamis.retrieval.index.filters import meets_all, parse_conditions
from tamis.retrieval.index.legs import REFERENCE_CHUNKS, evenly_drawn
from tamis.retrieval.index.models import QuestionModels
from tamis.retrieval.index.store import CorpusIndex, Hit, Hits, check_k, make_hit
from tamis.retrieval.keys.late_interaction import (
    Floats,
    Reference,
    max_similarities,
    reference_of,
    stand_out_scores,
)
from tamis.retrieval.keys.recipe import KeyRecipe
from tamis.retrieval.storage.segment import Segment
from tamis.retrieval.stores.engines import DEFAULT_NAME, ChunkStore, StoredChunk, open_engine

BATCH_CHUNKS = 32
FORMAT = 1


def export_index(
    index: CorpusIndex,
    store: ChunkStore,
    overwrite: bool = False,
    report: Callable[[int], None] = lambda chunks: None,
) -> int:
    """Copies the live chunks of an index, and returns how many; words and vectors stay behind.

    Args:
        overwrite: replace what is there.
        report: called with how many more chunks are stored.

    Raises:
        BadInput: an index of words alone, or the collection is there already.
    """
    recipe = index.manifest.settings.keys
    if recipe is None:
        raise BadInput(f"{index.folder} indexes words alone: it has no keys to export")
    if not overwrite and store.read_header() is not None:
        raise BadInput("there is an exported index already; replace it with --overwrite")
    count = len(index)
    drawn = evenly_drawn(np.ones(count, bool), REFERENCE_CHUNKS)
    header = {
        "format": FORMAT,
        "tamis": version("tamis"),
        "recipe": recipe,
        "heads": len(recipe["heads"]),
        "width": len(recipe["key_means"][0]),
        "chunks": count,
        "drawn": np.flatnonzero(drawn).tolist(),
    }
    store.write(header, _batches(index, report))
    return count


def _batches(index: CorpusIndex, report: Callable[[int], None]) -> Iterator[list[StoredChunk]]:
    live = chain.from_iterable(map(_live_chunks, index.segments))
    chunks = (StoredChunk(number, *of) for number, of in enumerate(live))
    while batch := list(islice(chunks, BATCH_CHUNKS)):
        yield batch
        report(len(batch))


def _live_chunks(segment: Segment) -> Iterator[tuple[dict[str, Any], Any]]:
    stored = segment.keys()
    assert stored is not None
    keys, starts = stored
    for c in np.flatnonzero(segment.live).tolist():
        chunk = segment.chunks[c]
        doc = segment.docs[int(segment.chunk_docs[c])]
        record = {name: chunk[name] for name in ("text", "start", "stop", "heading")}
        record |= {"doc": doc["id"], "title": doc["title"], "metadata": doc["metadata"]}
        yield record, np.asarray(keys[starts[c] : starts[c + 1]])


PROPOSALS = 400
"""Chunks that the engine proposes for each head."""
_MORE = 4
"""Where conditions leave fewer hits than wanted, so many times more proposals are looked at."""


class StoreIndex:
    """An exported index. It is searched by keys: words and vectors were not exported."""

    legs = ("keys",)

    def __init__(self, store: ChunkStore, models: QuestionModels) -> None:
        header = store.read_header()
        if header is None:
            raise BadInput(
                "no index was exported there, or its export was cut short; run `tamis index export`"
            )
        if header["format"] != FORMAT:
            raise BadInput(
                f"the exported index has format {header['format']} and this tamis reads {FORMAT}; "
                "export it again with --overwrite"
            )
        self._store, self._models, self._header = store, models, header
        self._recipe = KeyRecipe.from_json(header["recipe"])

    @classmethod
    def open(
        cls,
        engine: str,
        target: str | Path,
        name: str = DEFAULT_NAME,
        *,
        proxy: Any = None,
        root: Path | None = None,
    ) -> StoreIndex:
        """Opens what `tamis index export` made.

        Args:
            engine, target, name: as in `open_engine`. proxy, root: as in `CorpusIndex.open`.

        Raises:
            BadInput: nothing complete was exported there. MissingExtra: the engine's package is
                not installed.
        """
        return cls(open_engine(engine, target, name), QuestionModels(proxy, None, root))

    def newest(self) -> StoreIndex:
        """This index: an engine shows each search its newest state."""
        return self

    def close(self) -> None:
        """Gives up what the engine holds; in Qdrant's local mode, the folder."""
        self._store.close()

    def __len__(self) -> int:
        """How many chunks there are."""
        return int(self._header["chunks"])

    def search(
        self,
        question: str,
        k: int = 10,
        where: Mapping[str, Any] | Sequence[str] | str | None = None,
        *,
        search: str = "auto",
    ) -> Hits:
        """The best chunks for a question, best first, as `CorpusIndex.search` by keys gives them.

        `keys_read` counts the keys that tamis read, not those that the engine compared.

        Args:
            where: conditions on metadata, all of which hits meet.
            search: `auto`; how an engine searches is set up in the engine.

        Raises:
            BadInput: an empty question, k below 1, or another search.
        """
        k, conditions = check_k(k), parse_conditions(where)
        if search != "auto":
            raise BadInput(f"search={search!r}: an exported index is searched as its engine does")
        if not isinstance(question, str) or not question.strip():
            raise BadInput("the question is empty; a search needs one")
        if not len(self):
            return Hits()
        queries = self._models.key_encoder(self._recipe).encode_question(question)
        heads = len(self._recipe.heads)
        reference = reference_of(max_similarities(queries, *self._reference_keys, heads))
        known: dict[int, tuple[float, StoredChunk]] = {}
        allowed: list[tuple[float, StoredChunk]] = []
        count = min(max(PROPOSALS, 2 * k), len(self))
        while True:
            numbers = self._candidates(queries, reference, count) - set(known)
            if not numbers:
                break
            chunks = self._store.read(sorted(numbers))
            best = max_similarities(queries, *_join_keys(chunks), heads)
            scores = stand_out_scores(best, reference).tolist()
            known |= {of.number: (score, of) for of, score in zip(chunks, scores, strict=True)}
            allowed = [
                pair for pair in known.values() if meets_all(_document_of(pair[1]), conditions)
            ]
            if len(allowed) >= k or count >= len(self):
                break
            count = min(count * _MORE, len(self))
        ranked = sorted(allowed, key=lambda pair: (-pair[0], pair[1].number))[:k]
        read = sum(len(chunk.keys) for _, chunk in known.values())
        return Hits((_hit(*pair) for pair in ranked), read + len(self._reference_keys[0]))

    def _candidates(self, queries: Floats, reference: Reference, count: int) -> set[int]:
        """What the engine ranks first, for each head."""
        found = set[int]()
        for head, part in enumerate(np.split(queries, len(self._recipe.heads), axis=1)):
            weighted = np.ascontiguousarray(part / np.sqrt(reference.spread[head]))
            found.update(self._store.nearest(head, weighted, count))
        return found

    @cached_property
    def _reference_keys(self) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
        """Keys of the chunks that all others are compared with, and where each chunk's begin."""
        chunks = self._store.read(self._header["drawn"])
        return _join_keys(sorted(chunks, key=lambda chunk: chunk.number))


def _join_keys(chunks: Sequence[StoredChunk]) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    starts = np.cumsum([0, *(len(chunk.keys) for chunk in chunks)])
    return np.concatenate([chunk.keys for chunk in chunks]), starts


def _hit(score: float, chunk: StoredChunk) -> Hit:
    return make_hit(chunk.record, _document_of(chunk), score, {"keys": score})


def _document_of(chunk: StoredChunk) -> dict[str, Any]:
    record = chunk.record
    return {"id": record["doc"], "title": record["title"], "metadata": record["metadata"]}
