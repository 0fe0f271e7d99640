"""Changing an index: one writer at a time, one commit after the other, each of them whole.

documents ─ chunks ─ terms, keys, vectors ─► new segment ─► manifest swapped     a commit
                                              ▲ killed here: swept away by the next writer
A document that is put again replaces the one of its id in the same commit. Deletions are a list
beside the segments. Small segments are merged as they gather, copied and never read again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tamis.probes.errors import BadInput
from tamis.retrieval.storage.chunks import Chunk, CorpusDocument, chunk_document, title_line
from tamis.retrieval.storage.compaction import next_merge, merge_segments
from tamis.retrieval.storage.files import FileEntry, file_entry, save_array, sync_file
from tamis.retrieval.storage.garbage import next_segment_number, remove_unreferenced
from tamis.retrieval.storage.manifest import BUILDING, MANIFEST, Manifest, SegmentEntry
from tamis.retrieval.storage.segment import Segment, SegmentWriter, document_fingerprint
from tamis.retrieval.storage.snapshot import read_deletions

if TYPE_CHECKING:
    from tamis.probes.model.encoder import Encoder
    from tamis.retrieval.keys.encoder import KeyEncoder

BATCH_CHUNKS = 2048
READ_BATCH_CHUNKS = 256
"""With a model a batch takes a minute, and that is the most that a crash can cost."""
DocumentCallback = Callable[[CorpusDocument, bool], None]
DocumentPlace = tuple[int, int]
"""A segment's number, and a document's in it."""


@dataclass(slots=True)
class PutCounts:
    """What became of the documents that were put.

    Attributes:
        repeated: those whose id had come before in the same call; the later one counts.
    """

    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    deleted: int = 0
    chunks: int = 0
    repeated: int = 0


@dataclass(frozen=True, slots=True)
class ChunkModels:
    """The models that read chunks; None for what the index does not have."""

    keys: KeyEncoder | None = None
    vectors: Encoder | None = None


class IndexWriter:
    """The one that holds the lock; see `retrieval/index/sessions.py`.

    Args:
        name: the manifest it commits to: that of the readers, or of a rebuild under way.
    """

    def __init__(
        self, home: Path, manifest: Manifest, readers: ChunkModels, name: str = MANIFEST
    ) -> None:
        self.home, self.readers, self._name = home, readers, name
        remove_unreferenced(home, name, manifest)
        # a rebuild that waits beside this index has given numbers away, too
        self.manifest = replace(manifest, next_segment=next_segment_number(home))
        self._seen: set[str] = set()
        self.deleted_docs = read_deletions(home, manifest.deleted)
        self._places: dict[str, tuple[DocumentPlace, str]] = {}
        for card in manifest.segments:
            self._learn(card)

    def __len__(self) -> int:
        """How many documents live."""
        return len(self._places)

    def __contains__(self, doc: str) -> bool:
        return doc in self._places

    def put(self, documents: Iterable[CorpusDocument], report: DocumentCallback | None = None) -> PutCounts:
        """Adds documents and replaces those of the same id; what has not changed is passed over.

        Everything that was committed stays, whatever happens after: put the same documents again
        and it goes on from there. Of two documents of one id the later one counts.

        Args:
            report: told of each document, and whether it was new or changed.
        """
        counted, batch, chunks = PutCounts(), dict[str, tuple[CorpusDocument, list[Chunk]]](), 0
        seen = set[str]()
        most = READ_BATCH_CHUNKS if self.readers.keys or self.readers.vectors else BATCH_CHUNKS
        for document in documents:
            counted.repeated += document.id in seen
            seen.add(document.id)
            known = self._places.get(document.id)
            if known and known[1] == document_fingerprint(document) and document.id not in batch:
                counted.unchanged += 1
            else:
                cut = self._cut(document)
                counted.chunks += len(cut)
                chunks += len(cut)
                batch[document.id] = (document, cut)
            if report:
                report(document, document.id in batch)
            if max(chunks, len(batch)) >= most:
                self._commit_batch(batch, counted)
                batch, chunks = {}, 0
        if batch:
            self._commit_batch(batch, counted)
        self._seen |= seen
        return counted

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
        """Writes everything that lives into as few segments as may be, without what was deleted."""
        while run := next_merge(self.manifest.segments, self.deleted_docs, everything=True):
            self._merge(run)

    def finish(self, exact: bool = False) -> None:
        """Merges what the build left in small segments, and says that it is complete.

        What was built to replace an index takes its place now, by one rename.

        Args:
            exact: the index holds what this writer has put, and nothing of an earlier attempt.
        """
        if exact and (gone := [doc for doc in self._places if doc not in self._seen]):
            self.delete(gone)
        if len(self.manifest.segments) > 1 or self.deleted_docs:
            self.compact()
        if self.manifest.complete and self._name == MANIFEST:
            return
        self._name = MANIFEST
        self._swap(self.manifest.after(complete=True, sources=None), last=True)

    def _cut(self, document: CorpusDocument) -> list[Chunk]:
        of = self.manifest.settings
        return list(chunk_document(document, of.chunk_chars, of.language))

    def _commit_batch(
        self, batch: dict[str, tuple[CorpusDocument, list[Chunk]]], counted: PutCounts
    ) -> None:
        """One segment, and the older documents of the same ids gone, in one commit."""
        replaced = [doc for doc in batch if doc in self._places]
        writer = SegmentWriter(
            self.home, self.manifest.next_segment, self.manifest.settings.language
        )
        for document, chunks in batch.values():
            writer.add(document, chunks)
        self._read(writer, list(batch.values()))
        self._commit(writer.close(), replaced)
        counted.replaced += len(replaced)
        counted.added += len(batch) - len(replaced)
        while run := next_merge(self.manifest.segments, self.deleted_docs):
            self._merge(run)

    def _read(self, writer: SegmentWriter, batch: list[tuple[CorpusDocument, list[Chunk]]]) -> None:
        texts = [d.text[c.start : c.stop] for d, chunks in batch for c in chunks]
        titles = [title_line(d.title, c.heading) for d, chunks in batch for c in chunks]
        if self.readers.keys:
            writer.save_keys(list(self.readers.keys.keys(texts, titles)) or [_empty_keys(self)])
        if self.readers.vectors:
            pairs = zip(titles, texts, strict=True)
            lines = [f"{title}\n{text}" if title else text for title, text in pairs]
            writer.save("vectors", self.readers.vectors.encode(lines).numpy().astype(np.float16))

    def _merge(self, run: Sequence[SegmentEntry]) -> None:
        names = {card.name for card in run}
        made = merge_segments(self.home, run, self.deleted_docs, self.manifest)
        kept = tuple(card for card in self.manifest.segments if card.name not in names)
        for name in names:
            self.deleted_docs.pop(int(name), None)
        segments = (*kept, made) if made.documents else kept
        self._swap(
            self.manifest.after(
                segments=tuple(sorted(segments, key=lambda card: card.name)),
                next_segment=self.manifest.next_segment + 1,
                deleted=self._save_deletions(),
            )
        )
        if made.documents:
            self._learn(made)

    def _commit(self, card: SegmentEntry | None, gone: Sequence[str]) -> None:
        for doc in gone:
            (segment, document), _ = self._places.pop(doc)
            self.deleted_docs.setdefault(segment, set()).add(document)
        segments = self.manifest.segments
        self._swap(
            self.manifest.after(
                deleted=self._save_deletions() if gone else self.manifest.deleted,
                segments=(*segments, card) if card else segments,
                next_segment=self.manifest.next_segment + (card is not None),
            )
        )
        if card:
            self._learn(card)

    def _save_deletions(self) -> FileEntry | None:
        pairs = [(s, d) for s, documents in sorted(self.deleted_docs.items()) for d in sorted(documents)]
        if not pairs:
            return None
        number = self.manifest.generation + 1
        while (path := self.home / f"deleted-{number:06d}.npy").exists():
            number += 1  # the other manifest's
        save_array(path, np.array(pairs, dtype=np.int64))
        sync_file(self.home)
        return file_entry(self.home, path)

    def _swap(self, manifest: Manifest, last: bool = False) -> None:
        """The commit: from here on readers see the new state. Files of the old one go."""
        manifest.write(self.home, self._name)
        self.manifest = manifest
        if last:
            (self.home / BUILDING).unlink(missing_ok=True)
        remove_unreferenced(self.home, self._name, manifest)

    def _learn(self, card: SegmentEntry) -> None:
        segment = Segment(self.home, card)
        try:
            for number, record in enumerate(segment.docs):
                if number not in self.deleted_docs.get(int(card.name), ()):
                    self._places[record["id"]] = ((int(card.name), number), record["fingerprint"])
        finally:
            segment.close()


def _empty_keys(writer: IndexWriter) -> Any:
    """The keys of a segment without chunks."""
    recipe = writer.manifest.settings.keys or {}
    width = sum(len(mean) for mean in recipe.get("key_means", ()))
    return np.zeros((0, width), np.int8)
