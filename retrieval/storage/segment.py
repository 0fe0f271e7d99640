"""One segment of an index: documents and chunks that never change, written once and then read.

docs.jsonl, docs.npy        id, title, metadata, chunks `[first, stop)`, fingerprint, source,
                            whether others of its id came before
chunks.jsonl, chunks.npy    start, stop, heading, units, text; a document's chunks make up its text
chunk_docs.npy              [C] the document of each chunk
terms.json, term_*.npy, lengths.npy     BM25
keys.npy, key_starts.npy    [N, H·d] int8, and where the keys of each chunk begin
vectors.npy                 [C, D] fp16
kv.bin, kv_*.npy            what chunks need to be asked again unread, see `kept_windows.py`
graph0_*.npy                the graph over the keys of a head, see `retrieval/approximate`

Records are lines of JSON, each with a number to find it by and a checksum:

NAME.jsonl   one object per line, ASCII: lone surrogates and control characters are escapes
NAME.npy     per record: where its line starts, how long it is, 8 bytes of BLAKE2b

The newest state of an index is opened as a snapshot of segments while a writer is at work.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis.probes.atomic_file import sync_path
from tamis.probes.errors import BadIndex, BadInput
from tamis.retrieval.storage.chunks import Chunk, blank_markup, title_line
from tamis.retrieval.storage.files import (
    PARTIAL_SUFFIX,
    CheckedFile,
    FileEntry,
    file_digest,
    file_entry,
    save_array,
    sync,
)
from tamis.retrieval.storage.manifest import SEGMENTS, Manifest, SegmentEntry
from tamis.retrieval.storage.postings import Mask, Postings, PostingsWriter, index_terms
from tamis.text.types import CorpusDocument

_PLACE_DTYPE = np.dtype([("start", "<u8"), ("size", "<u4"), ("check", "<u8")])


def _checksum(line: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(line, digest_size=8).digest(), "little")


class RecordWriter:
    """Appends records to a file; only their places are kept in memory."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name, self._offset = folder, name, 0
        self._places: list[tuple[int, int, int]] = []
        self._stream = (folder / f"{name}.jsonl").open("wb")

    def __len__(self) -> int:
        return len(self._places)

    def add(self, record: dict[str, Any]) -> None:
        """Appends one record."""
        line = json.dumps(record, separators=(",", ":")).encode()
        self._places.append((self._offset, len(line), _checksum(line)))
        self._stream.write(line + b"\n")
        self._offset += len(line) + 1

    def close(self) -> None:
        """Writes the places and waits until everything is on disk."""
        sync(self._stream)
        self._stream.close()
        places = np.array(self._places, dtype=_PLACE_DTYPE)
        save_array(self._folder / f"{self._name}.npy", places)


class Records:
    """Records on disk; each is read when it is accessed, and compared with its checksum."""

    def __init__(self, lines: CheckedFile, places: CheckedFile) -> None:
        self._line_file, self._place_file = lines, places

    def __len__(self) -> int:
        return len(self._place_file.array())

    def __getitem__(self, number: int) -> dict[str, Any]:
        """One record.

        Raises:
            BadIndex: its bytes are not those that were written.
        """
        place = self._place_file.array()[number]
        start, size = int(place["start"]), int(place["size"])
        line = self._line_file.read(start, start + size)
        if _checksum(line) != int(place["check"]):
            raise BadIndex(
                f"{self._line_file.path} is damaged: record {number}, at byte {start}, does not "
                "match its checksum; build the index again"
            )
        record: dict[str, Any] = json.loads(line)
        return record

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[number] for number in range(len(self)))


def document_fingerprint(document: CorpusDocument) -> str:
    """A hash of a document's text, title and metadata: equal as long as none of them changes."""
    parts = [document.text, document.title, dict(document.metadata)]
    line = json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.blake2b(line, digest_size=16).hexdigest()


class Segment:
    """A segment on disk; files are opened at once, their contents read when first needed.

    Attributes:
        live: `[C]` bool, the chunks whose documents were not deleted or replaced.
        deleted_docs: numbers of the documents that were deleted or replaced.
    """

    def __init__(self, home: Path, entry: SegmentEntry, deleted_docs: Sequence[int] = ()) -> None:
        self.entry = entry
        self.files: Mapping[str, CheckedFile] = _open_files(home, entry)
        files = self.files
        self.docs = Records(files["docs.jsonl"], files["docs.npy"])
        self.chunks = Records(files["chunks.jsonl"], files["chunks.npy"])
        self.postings = Postings(files)
        self.chunk_docs = files["chunk_docs.npy"].array()
        self.deleted_docs = frozenset(deleted_docs)
        deleted = np.array(sorted(deleted_docs), dtype=np.int64)
        self.live: Mask = ~np.isin(self.chunk_docs, deleted)
        self._documents: list[dict[str, Any]] | None = None

    def documents(self) -> list[dict[str, Any]]:
        """The records of all documents, deleted ones included; read once, for filters."""
        if self._documents is None:
            self._documents = list(self.docs)
        return self._documents

    def keys(self) -> tuple[NDArray[Any], NDArray[Any]] | None:
        """Keys, and where the keys of each chunk begin; None where the index has no keys."""
        if "keys.npy" not in self.files:
            return None
        return self.files["keys.npy"].array(), self.files["key_starts.npy"].array()

    def vectors(self) -> NDArray[Any] | None:
        """One vector per chunk; None where the index has no vectors."""
        return self.files["vectors.npy"].array() if "vectors.npy" in self.files else None

    def close(self) -> None:
        """Closes its files."""
        for file in self.files.values():
            file.close()


def _open_files(home: Path, entry: SegmentEntry) -> dict[str, CheckedFile]:
    """Opens every file of a segment; if one cannot be opened, none stays open."""
    opened: dict[str, CheckedFile] = {}
    with ExitStack() as stack:
        for file in entry.files:
            name = Path(file.path).name
            opened[name] = stack.enter_context(closing(CheckedFile(home, file)))
        stack.pop_all()
    return opened


class SegmentWriter:
    """Writes a segment into a folder that gets its final name when everything in it is on disk."""

    def __init__(self, home: Path, number: int, language: str) -> None:
        self.home, self.name, self.language = home, f"{number:06d}", language
        self.folder = home / SEGMENTS / f"{self.name}{PARTIAL_SUFFIX}"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self._docs = RecordWriter(self.folder, "docs")
        self._chunks = RecordWriter(self.folder, "chunks")
        self._postings = PostingsWriter()
        self._chunk_docs: list[int] = []
        self._chars = 0

    def add(
        self, document: CorpusDocument, chunks: Sequence[Chunk], repeated: bool = False
    ) -> None:
        """Adds a document and its chunks.

        Args:
            repeated: another document of this id came before it.
        """
        is_html = any(chunk.html for chunk in chunks)
        # of the whole document: a script may extend over two chunks
        shown = blank_markup(document.text) if is_html else document.text
        for chunk in chunks:
            text = document.text[chunk.start : chunk.stop]
            title = title_line(document.title, chunk.heading) or ""
            terms = index_terms(title, self.language)
            terms += index_terms(shown[chunk.start : chunk.stop], self.language, is_html)
            self._postings.add(terms)
            place = {"start": chunk.start, "stop": chunk.stop, "heading": chunk.heading}
            pieces = [(one.start, one.stop, one.visible, one.kind) for one in chunk.pieces]
            self._add_chunk({**place, "units": chunk.units, "pieces": pieces, "text": text})
        record = {"id": document.id, "title": document.title, "metadata": dict(document.metadata)}
        marks = {"repeated": True} if repeated else {}
        record |= {"fingerprint": document_fingerprint(document), "source": document.source}
        self._add_document({**record, **marks}, len(chunks))

    def copy_live(self, old: Segment) -> None:
        """Adds the live documents of another segment, in order, without computing anything anew."""
        for number, record in enumerate(old.docs):
            if number in old.deleted_docs:
                continue
            first, stop = record["chunks"]
            for chunk in range(first, stop):
                self._add_chunk(old.chunks[chunk])
            self._add_document(record, stop - first)
        self._postings.copy_live(old.postings, old.live)

    def _add_chunk(self, record: dict[str, Any]) -> None:
        self._chunks.add(record)
        self._chunk_docs.append(len(self._docs))
        self._chars += record["stop"] - record["start"]

    def _add_document(self, record: dict[str, Any], chunks: int) -> None:
        self._docs.add({**record, "chunks": [len(self._chunks) - chunks, len(self._chunks)]})

    def save_keys(self, parts: Sequence[NDArray[Any]], no_keys: NDArray[Any]) -> None:
        """Writes the keys of all chunks, given chunk by chunk in order; there may be no chunk.

        Args:
            no_keys: `[0, H·d]`, what a segment without chunks has.
        """
        starts = np.cumsum([0, *map(len, parts)], dtype=np.int64)
        save_array(self.folder / "keys.npy", np.concatenate([no_keys, *parts]))
        save_array(self.folder / "key_starts.npy", starts)

    def save(self, name: str, values: NDArray[Any]) -> None:
        """Writes one more array, `NAME.npy`."""
        save_array(self.folder / f"{name}.npy", values)

    def close(self) -> SegmentEntry:
        """Renames the folder to its final name; the manifest does not name the segment yet."""
        self._docs.close()
        self._chunks.close()
        self._postings.write(self.folder)
        save_array(self.folder / "chunk_docs.npy", np.array(self._chunk_docs, dtype=np.int32))
        sync_path(self.folder)
        folder = self.folder.with_name(self.name)
        self.folder.rename(folder)
        sync_path(folder.parent)
        starts = folder / "key_starts.npy"
        tokens = int(np.load(starts)[-1]) if starts.exists() else 0
        files = tuple(file_entry(self.home, path) for path in sorted(folder.iterdir()))
        return SegmentEntry(
            self.name, len(self._docs), len(self._chunks), self._chars, tokens, files
        )


_ATTEMPTS = 10


def open_snapshot(home: Path) -> tuple[Manifest, list[Segment]]:
    """The manifest and its segments with all files opened, so that they outlast their deletion.

    A writer may delete files between the reading of the manifest and the opening of the files; then
    there is a newer manifest, and opening is tried again with that.

    Raises:
        BadInput: there is no index. BadIndex: it is damaged, or a file of it is missing.
    """
    missing = ""
    for _ in range(_ATTEMPTS):
        manifest = Manifest.read(home)
        try:
            return manifest, _open_segments(home, manifest)
        except FileNotFoundError as error:
            missing = str(error.filename)
            if Manifest.read(home) == manifest:
                break
        except OSError as error:
            raise _open_error(home, manifest, error) from error
    raise BadIndex(f"{missing} is missing from the index {home}; build the index again")


def read_deletions(home: Path, entry: FileEntry | None) -> dict[int, set[int]]:
    """The numbers of deleted documents, by the number of their segment."""
    deleted: dict[int, set[int]] = {}
    if entry is not None:
        file = CheckedFile(home, entry)
        for segment, document in file.array():
            deleted.setdefault(int(segment), set()).add(int(document))
        file.close()
    return deleted


def _open_segments(home: Path, manifest: Manifest) -> list[Segment]:
    deleted = read_deletions(home, manifest.deleted)
    opened: list[Segment] = []
    with ExitStack() as stack:
        for entry in manifest.segments:
            segment = Segment(home, entry, sorted(deleted.get(int(entry.name), ())))
            opened.append(stack.enter_context(closing(segment)))
        stack.pop_all()
    return opened


def _open_error(home: Path, manifest: Manifest, error: OSError) -> Exception:
    if error.errno not in (errno.EMFILE, errno.ENFILE):
        return BadInput(f"{error.filename} cannot be read ({error.strerror}); check the index")
    files = sum(len(entry.files) for entry in manifest.segments)
    return BadInput(
        f"the index {home} has {files} files in {len(manifest.segments)} segments and this process "
        f"may open no more ({error.strerror}); merge them with `tamis index optimise {home}`, or "
        "allow more with `ulimit -n`"
    )


MISMATCH = "its bytes do not match the checksum"


def find_faults(home: Path) -> list[str]:
    """The faults of an index, each with its file; an empty list if every byte is as it was written.

    A writer may be at work: if it deleted files meanwhile, those of its new state are read.

    Raises:
        BadInput: there is no index. BadIndex: its manifest is damaged.
    """
    while True:
        manifest = Manifest.read(home)
        entries = [entry for segment in manifest.segments for entry in segment.files]
        entries += [file for file in (manifest.deleted, manifest.queries) if file]
        faults = [f"{entry.path}: {why}" for entry in entries if (why := file_fault(home, entry))]
        if not faults or Manifest.read(home) == manifest:
            return faults


def file_fault(home: Path, entry: FileEntry) -> str:
    """What is wrong with a file; empty if nothing is."""
    path = Path(entry.path)
    if path.is_absolute() or ".." in path.parts:
        return "it lies outside the index"
    try:
        size = (home / path).stat().st_size
        if size != entry.size:
            return f"it has {size} bytes and {entry.size} were written"
        return "" if file_digest(home / path) == entry.blake2b else MISMATCH
    except OSError as error:
        return str(error.strerror)
