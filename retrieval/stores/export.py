"""Exports an index to an engine: its live chunks with their keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

import numpy as np

from tamis.probes.errors import BadInput
from tamis.retrieval.index.key_leg import REFERENCE_CHUNKS, evenly_drawn
from tamis.retrieval.index.store import CorpusIndex
from tamis.retrieval.storage.segment import Segment
from tamis.retrieval.stores.engines import ChunkStore, StoredChunk

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
        raise BadInput(f"{index.home} indexes words alone: it has no keys to export")
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
    batch: list[StoredChunk] = []
    for number, (record, keys) in enumerate(_live_chunks(index)):
        batch.append(StoredChunk(number, record, keys))
        if len(batch) == BATCH_CHUNKS:
            yield batch
            report(len(batch))
            batch = []
    if batch:
        yield batch
        report(len(batch))


def _live_chunks(index: CorpusIndex) -> Iterator[tuple[dict[str, Any], Any]]:
    for segment in index.segments:
        yield from _of_segment(segment)


def _of_segment(segment: Segment) -> Iterator[tuple[dict[str, Any], Any]]:
    stored = segment.keys()
    assert stored is not None
    keys, starts = stored
    for c in np.flatnonzero(segment.live).tolist():
        chunk = segment.chunks[c]
        doc = segment.docs[int(segment.chunk_docs[c])]
        record = {name: chunk[name] for name in ("text", "start", "stop", "heading")}
        record |= {"doc": doc["id"], "title": doc["title"], "metadata": doc["metadata"]}
        yield record, np.asarray(keys[starts[c] : starts[c + 1]])
