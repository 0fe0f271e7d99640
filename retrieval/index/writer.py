"""Changes an index: one writer at a time, one atomic commit after the other.

documents ─ chunks ─ terms, keys, vectors ─► new segment ─► manifest replaced     a commit
                                              ▲ killed here: the next writer deletes the segment
A document that is put again replaces the one of its id in the same commit. Deletions are a list
beside the segments. Small segments are merged as they accumulate: what models computed is copied.
A merged segment with many keys gets a structure that searches find keys by, see `structures.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tamis.probes.errors import BadInput
from tamis.retrieval.approximate.segment_search import check_kind, kind_for, structure_kind
from tamis.retrieval.approximate.types import Progress
from tamis.retrieval.index.models import ChunkModels as ChunkModels
from tamis.retrieval.index.structures import SegmentStructures
from tamis.retrieval.storage.chunks import Chunk, CorpusDocument, chunk_document, title_line
from tamis.retrieval.storage.compaction import (
    merge_segments,
    next_merge,
    next_segment_number,
    remove_unreferenced,
)
from tamis.retrieval.storage.files import FileEntry, save_state_array
from tamis.retrieval.storage.kept_windows import write_kept_windows
from tamis.retrieval.storage.manifest import BUILDING, MANIFEST, Manifest, SegmentEntry
from tamis.retrieval.storage.segment import Segment, SegmentWriter, document_fingerprint
from tamis.retrieval.storage.snapshot import read_deletions

BATCH_CHUNKS = 2048
"""Documents are committed in batches of about this many chunks."""
MODEL_BATCH_CHUNKS = 256
"""The same where models read: such a batch takes a minute, which is the most a crash can cost."""
DocumentCallback = Callable[[CorpusDocument, bool], None]
"""Called with each document, and whether it is new or changed."""
DocumentPlace = tuple[int, int]
"""The number of a segment, and of a document in it."""


@dataclass(slots=True)
class PutCounts:
    """How many documents one call of `put` added, replaced or left alone, and their chunks.

    Attributes:
        repeated: documents whose id came before in the same call; the later one counts.
    """

    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    deleted: int = 0
    chunks: int = 0
    repeated: int = 0


class IndexWriter:
    """Puts and deletes documents, and merges segments; made by `retrieval/index/sessions.py`.

    Whoever makes one must hold the write lock as long as it is used.

    Args:
        name: the manifest it commits to: the one that searches read, or that of a rebuild.

    Attributes:
        report_keys: called while a structure is built, with how many more keys it has taken in.
    """

    def __init__(
        self, home: Path, manifest: Manifest, models: ChunkModels, name: str = MANIFEST
    ) -> None:
        self.home, self.models, self._name = home, models, name
        remove_unreferenced(home, name, manifest)
        # an unfinished rebuild beside this index has used segment numbers, too
        self.manifest = replace(manifest, next_segment=next_segment_number(home))
        self._put_ids: set[str] = set()
        self.report_keys: Progress = lambda keys: None
        self.deleted_docs = read_deletions(home, manifest.deleted)
        self._places: dict[str, tuple[DocumentPlace, str]] = {}
        for entry in manifest.segments:
            self._register(entry)

    def __len__(self) -> int:
        """How many live documents there are."""
        return len(self._places)

    def __contains__(self, doc: str) -> bool:
        return doc in self._places

    def put(
        self, documents: Iterable[CorpusDocument], report: DocumentCallback | None = None
    ) -> PutCounts:
        """Adds documents and replaces those of the same id; unchanged ones are skipped.

        What was committed stays, whatever happens later: after an interruption, put the same
        documents again, and only the rest is indexed. Of two documents of one id the later counts.
        """
        counts, batch, batch_chunks = (
            PutCounts(),
            dict[str, tuple[CorpusDocument, list[Chunk]]](),
            0,
        )
        ids = set[str]()
        has_models = self.models.keys or self.models.vectors or self.models.kv
        max_chunks = MODEL_BATCH_CHUNKS if has_models else BATCH_CHUNKS
        for document in documents:
            counts.repeated += document.id in ids
            ids.add(document.id)
            indexed = self._places.get(document.id)
            if (
                indexed
                and indexed[1] == document_fingerprint(document)
                and document.id not in batch
            ):
                counts.unchanged += 1
            else:
                chunks = self._split(document)
                counts.chunks += len(chunks)
                batch_chunks += len(chunks)
                batch[document.id] = (document, chunks)
            if report:
                report(document, document.id in batch)
            if max(batch_chunks, len(batch)) >= max_chunks:
                self._commit_batch(batch, counts)
                batch, batch_chunks = {}, 0
        if batch:
            self._commit_batch(batch, counts)
        self._put_ids |= ids
        return counts

    def delete(self, docs: Sequence[str]) -> int:
        """Deletes documents by id, all in one commit; returns how many.

        Raises:
            BadInput: an id that the index does not hold; then nothing is deleted.
        """
        wanted = list(dict.fromkeys(docs))
        if missing := [doc for doc in wanted if doc not in self._places]:
            some = ", ".join(map(repr, missing[:3])) + (", …" if len(missing) > 3 else "")
            raise BadInput(
                f"the index holds no document {some} ({len(missing)} of {len(wanted)} ids); "
                "nothing was deleted"
            )
        if wanted:
            self._commit(None, wanted)
        return len(wanted)

    def compact(self) -> None:
        """Merges segments into as few as possible, without what was deleted."""
        while run := next_merge(self.manifest.segments, self.deleted_docs, everything=True):
            self._merge(run)

    def optimise(self, search: str = "auto", renew: bool = False) -> None:
        """Merges segments as `compact` does, and gives large ones the structure for a search.

        Args:
            search: `auto` or `graph`, `ivf`, `exact` for none; later segments get it, too.
            renew: compute training queries anew, and build all structures again.

        Raises:
            BadInput: no such search. MissingExtra: it needs FAISS, which is not installed.
        """
        check_kind(search)
        queries = None if renew else self.manifest.queries
        if (search, queries) != (self.manifest.search, self.manifest.queries):
            self._write_manifest(self.manifest.next_generation(search=search, queries=queries))
        before = {entry.name for entry in self.manifest.segments} if renew else set()
        self.compact()
        self._complete_structures(before)

    def finish(self, exact: bool = False) -> None:
        """Merges the small segments of a build, and commits the index as complete.

        A rebuild replaces the old index now, by one rename.

        Args:
            exact: first delete the documents that this writer has not put, those of an earlier,
                interrupted build.
        """
        if exact and (surplus := [doc for doc in self._places if doc not in self._put_ids]):
            self.delete(surplus)
        if len(self.manifest.segments) > 1 or self.deleted_docs:
            self.compact()
        self._complete_structures()
        if self.manifest.complete and self._name == MANIFEST:
            return
        self._name = MANIFEST
        self._write_manifest(
            self.manifest.next_generation(complete=True, sources=None), ends_rebuild=True
        )

    def _split(self, document: CorpusDocument) -> list[Chunk]:
        settings = self.manifest.settings
        return list(chunk_document(document, settings.chunk_chars, settings.language))

    def _commit_batch(
        self, batch: dict[str, tuple[CorpusDocument, list[Chunk]]], counts: PutCounts
    ) -> None:
        """Adds a segment and deletes the older documents of the same ids, in one commit."""
        replaced = [doc for doc in batch if doc in self._places]
        writer = SegmentWriter(
            self.home, self.manifest.next_segment, self.manifest.settings.language
        )
        for document, chunks in batch.values():
            writer.add(document, chunks)
        self._encode(writer, list(batch.values()))
        self._commit(writer.close(), replaced)
        counts.replaced += len(replaced)
        counts.added += len(batch) - len(replaced)
        while run := next_merge(self.manifest.segments, self.deleted_docs):
            self._merge(run)

    def _encode(
        self, writer: SegmentWriter, batch: list[tuple[CorpusDocument, list[Chunk]]]
    ) -> None:
        """Writes the keys, vectors and kept readings of chunks, where the index has them."""
        texts = [d.text[c.start : c.stop] for d, chunks in batch for c in chunks]
        titles = [title_line(d.title, c.heading) for d, chunks in batch for c in chunks]
        if self.models.keys:
            keys = list(self.models.keys.encode_chunks(texts, titles))
            writer.save_keys(keys, _empty_keys(self))
        if self.models.vectors:
            pairs = zip(titles, texts, strict=True)
            lines = [f"{title}\n{text}" if title else text for title, text in pairs]
            writer.save("vectors", self.models.vectors.encode(lines).numpy().astype(np.float16))
        if self.models.kv:
            write_kept_windows(writer.folder, self.models.kv.keep_chunks(texts, titles))

    def _complete_structures(self, renewed: Collection[str] = ()) -> None:
        """Builds what segments lack for the index's search; those of `renewed` again."""
        if self.manifest.settings.keys is None:
            return
        for entry in self.manifest.segments:
            wanted = kind_for(self.manifest.search, entry.tokens)
            is_old = entry.name in renewed and wanted != "exact"
            if is_old or wanted != structure_kind(entry.file_names):
                self._merge([entry])

    def _merge(self, run: Sequence[SegmentEntry]) -> None:
        names = {entry.name for entry in run}
        structures = SegmentStructures(self.home, self.manifest, self.models, self.report_keys)
        merged = merge_segments(self.home, run, self.deleted_docs, self.manifest, structures.add_to)
        kept = tuple(entry for entry in self.manifest.segments if entry.name not in names)
        for name in names:
            self.deleted_docs.pop(int(name), None)
        segments = (*kept, merged) if merged.documents else kept
        self._write_manifest(
            self.manifest.next_generation(
                segments=tuple(sorted(segments, key=lambda entry: entry.name)),
                next_segment=self.manifest.next_segment + 1,
                deleted=self._save_deletions(),
                queries=structures.queries_entry,
            )
        )
        if merged.documents:
            self._register(merged)

    def _commit(self, entry: SegmentEntry | None, removed: Sequence[str]) -> None:
        """Adds a segment and deletes documents by id, in one commit."""
        for doc in removed:
            (segment, document), _ = self._places.pop(doc)
            self.deleted_docs.setdefault(segment, set()).add(document)
        segments = self.manifest.segments
        self._write_manifest(
            self.manifest.next_generation(
                deleted=self._save_deletions() if removed else self.manifest.deleted,
                segments=(*segments, entry) if entry else segments,
                next_segment=self.manifest.next_segment + (entry is not None),
            )
        )
        if entry:
            self._register(entry)

    def _save_deletions(self) -> FileEntry | None:
        pairs = [(s, doc) for s, docs in sorted(self.deleted_docs.items()) for doc in sorted(docs)]
        if not pairs:
            return None
        rows = np.array(pairs, dtype=np.int64)
        return save_state_array(self.home, "deleted", self.manifest.generation + 1, rows)

    def _write_manifest(self, manifest: Manifest, ends_rebuild: bool = False) -> None:
        """Commits: searches that open the index now get the new state; old files are deleted."""
        manifest.write(self.home, self._name)
        self.manifest = manifest
        if ends_rebuild:
            (self.home / BUILDING).unlink(missing_ok=True)
        remove_unreferenced(self.home, self._name, manifest)

    def _register(self, entry: SegmentEntry) -> None:
        """Notes where the live documents of a segment are, and their fingerprints."""
        segment = Segment(self.home, entry)
        try:
            for number, record in enumerate(segment.docs):
                if number not in self.deleted_docs.get(int(entry.name), ()):
                    self._places[record["id"]] = ((int(entry.name), number), record["fingerprint"])
        finally:
            segment.close()


def _empty_keys(writer: IndexWriter) -> Any:
    """The keys of a segment without chunks."""
    recipe = writer.manifest.settings.keys or {}
    width = sum(len(mean) for mean in recipe.get("key_means", ()))
    return np.zeros((0, width), np.int8)
