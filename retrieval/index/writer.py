"""Changes an index: one writer at a time, one atomic commit after the other.

documents ─ chunks ─ terms, keys, vectors ─► new segment ─► manifest replaced     a commit
                                              ▲ killed here: the next writer deletes the segment
A document that is put again replaces the one of its id in the same commit. Deletions are a list
beside the segments. A merged segment with many keys gets a structure that searches find keys by.

Small segments are merged as they accumulate: live documents are copied, no model reads them again,
and deleted ones are dropped. Segments come in tiers, each eight times the size of the one below; as
soon as a tier has eight segments they become one of the next tier, or as many of them as fit into
one (as in log-structured merge trees, O'Neil et al. 1996). So an index has few files however often
it is added to, and each chunk is copied a few times at most.

Garbage is what neither of the manifests in the folder names: files that a crash left unfinished,
and files of older generations. While an index is rebuilt, readers still use the old one, so the
files of both are kept. If the old manifest cannot be read, it is not known which files it names:
all of them are kept until the rebuild replaces it.

Training queries show what questions about the corpus look like to its heads. A graph follows
queries (RetrievalAttention, arXiv 2409.10516, §3.2). An index is made before its questions are
known, so these stand in: the questions that the caller has, else general ones that ship with tamis;
and sentences of the corpus, read as if they were asked. Sentences of the corpus made the better
graph: lab/log/retrieval-and-selectors.md#2026-11-26-approximate-search-of-an-index
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tamis.probes.atomic_file import TEMPORARY_GLOB, sync_path, write_lock
from tamis.probes.errors import BadIndex, BadInput, IndexBusy, TamisError
from tamis.retrieval.approximate.segment_search import (
    build_graphs,
    check_kind,
    has_floor,
    kind_for,
    structure_kind,
)
from tamis.retrieval.approximate.types import Floats, Progress
from tamis.retrieval.index.models import ChunkModels
from tamis.retrieval.storage.chunks import Chunk, chunk_document, title_line
from tamis.retrieval.storage.files import (
    LOCK,
    PARTIAL_SUFFIX,
    CheckedFile,
    FileEntry,
    save_state_array,
)
from tamis.retrieval.storage.kept_windows import copy_kept_windows, write_kept_windows
from tamis.retrieval.storage.manifest import (
    BUILDING,
    MANIFEST,
    SEGMENTS,
    IndexSettings,
    Manifest,
    SegmentEntry,
)
from tamis.retrieval.storage.segment import (
    Segment,
    SegmentWriter,
    document_fingerprint,
    read_deletions,
)
from tamis.text.types import CorpusDocument, Passage

if TYPE_CHECKING:
    from tamis.probes.attention.kv_layers import ExactKVLayers
    from tamis.probes.prompt import PassageTokens
    from tamis.retrieval.keys.encoder import KeyEncoder, Keys

FANOUT = 8
MAX_CHUNKS = 1 << 16
"""No merge makes a segment with more chunks than this."""


def next_merge(
    segments: Sequence[SegmentEntry], deleted_docs: Mapping[int, set[int]], everything: bool = False
) -> list[SegmentEntry]:
    """The next segments to merge; none where nothing would be gained.

    Args:
        deleted_docs: document numbers by segment number.
        everything: merge whatever fits into one segment, and whatever has deletions.
    """
    if everything:
        for one in segments:
            if deleted_docs.get(int(one.name)):
                others = [segment for segment in segments if segment is not one]
                return [one, *_fit_into_one(others, one.chunks)]
        run = _fit_into_one(sorted(segments, key=lambda segment: segment.chunks), 0)
        return run if len(run) > 1 else []
    tiers: dict[int, list[SegmentEntry]] = {}
    for segment in segments:
        tiers.setdefault(_tier(segment), []).append(segment)
    for tier in sorted(tiers):
        if len(tiers[tier]) >= FANOUT:
            run = _fit_into_one(sorted(tiers[tier], key=lambda segment: segment.chunks), 0)
            if len(run) > 1:
                return run
    return []


def _tier(segment: SegmentEntry) -> int:
    return max(0, (max(1, segment.chunks).bit_length() - 1) // 3)


def _fit_into_one(segments: Sequence[SegmentEntry], chunks: int) -> list[SegmentEntry]:
    """Those of the segments, in order, that fit into one beside this many chunks."""
    fitting = []
    for segment in segments:
        if chunks + segment.chunks <= MAX_CHUNKS:
            fitting.append(segment)
            chunks += segment.chunks
    return fitting


def merge_segments(
    home: Path,
    segments: Sequence[SegmentEntry],
    deleted_docs: Mapping[int, set[int]],
    manifest: Manifest,
    finish: Callable[[Path, Sequence[Segment]], None],
) -> SegmentEntry:
    """Writes the live documents of some segments as a new one; the manifest is not touched.

    Args:
        finish: called with the folder of the new segment, once its keys and vectors are in it, and
            with the old segments; what it writes there belongs to the new one.
    """
    old = [
        Segment(home, entry, sorted(deleted_docs.get(int(entry.name), ())))
        for entry in sorted(segments, key=lambda entry: entry.name)
    ]
    writer = SegmentWriter(home, manifest.next_segment, manifest.settings.language)
    for segment in old:
        writer.copy_live(segment)
    if manifest.settings.keys:
        _copy_keys(writer, old)
    if manifest.settings.vectors:
        parts = [segment.vectors() for segment in old]
        live = [part[s.live] for part, s in zip(parts, old, strict=True) if part is not None]
        writer.save("vectors", np.concatenate(live))
    if manifest.settings.kv:
        copy_kept_windows(writer.folder, old)
    finish(writer.folder, old)
    for segment in old:
        segment.close()
    return writer.close()


def _copy_keys(writer: SegmentWriter, old: Sequence[Segment]) -> None:
    """Copies keys, the bulk of an index, chunk by chunk, so that they are never all in memory."""
    parts = [segment.keys() for segment in old]
    sizes = [
        np.diff(part[1])[segment.live]
        for part, segment in zip(parts, old, strict=True)
        if part is not None
    ]
    starts = np.cumsum([0, *np.concatenate(sizes)], dtype=np.int64)
    width = next(part[0].shape[1] for part in parts if part is not None)
    out = np.lib.format.open_memmap(
        writer.folder / "keys.npy", mode="w+", dtype=np.int8, shape=(int(starts[-1]), width)
    )
    filled = 0
    for part, segment in zip(parts, old, strict=True):
        if part is None:
            continue
        keys, begins = part
        for chunk in np.flatnonzero(segment.live).tolist():
            rows = keys[begins[chunk] : begins[chunk + 1]]
            out[filled : filled + len(rows)] = rows
            filled += len(rows)
    out.flush()
    sync_path(writer.folder / "keys.npy")
    writer.save("key_starts", starts)


def remove_unreferenced(home: Path, name: str, state: Manifest) -> None:
    """Removes the segments, deletion lists and temporary files that no manifest names.

    Only the holder of the write lock may call it.

    Args:
        name: of the manifest that the writer commits to. state: its content.
    """
    other, is_known = _read_manifest(home, BUILDING if name == MANIFEST else MANIFEST)
    segments = {entry.name for of in (state, other) if of for entry in of.segments}
    (home / SEGMENTS).mkdir(exist_ok=True)
    for folder in (home / SEGMENTS).iterdir():
        if folder.name not in segments and (is_known or _is_from_this_writer(folder, state)):
            shutil.rmtree(folder, ignore_errors=True)
    if is_known:
        states = [of for of in (state, other) if of]
        named = {file.path for of in states for file in (of.deleted, of.queries) if file}
        for file in (*home.glob("deleted-*.npy"), *home.glob("queries-*.npy")):
            if file.name not in named:
                file.unlink(missing_ok=True)
    for file in home.glob(TEMPORARY_GLOB):
        file.unlink(missing_ok=True)


def next_segment_number(home: Path) -> int:
    """The lowest segment number above all that a folder has or a manifest has used."""
    free = [1]
    for name in (MANIFEST, BUILDING):
        manifest, _ = _read_manifest(home, name)
        free += [manifest.next_segment] if manifest else []
    if (home / SEGMENTS).is_dir():
        names = (folder.name.removesuffix(PARTIAL_SUFFIX) for folder in (home / SEGMENTS).iterdir())
        free += [int(name) + 1 for name in names if name.isdecimal()]
    return max(free)


def _read_manifest(home: Path, name: str) -> tuple[Manifest | None, bool]:
    """The manifest of that name, and whether all files that it names are known."""
    if not (home / name).exists():
        return None, True
    try:
        return Manifest.read(home, name), True
    except TamisError:
        return None, name == BUILDING  # an unreadable rebuild starts again from nothing


def _is_from_this_writer(folder: Path, state: Manifest) -> bool:
    """Whether only this writer can have made it: it is unfinished, or has an unused number."""
    return folder.name.endswith(PARTIAL_SUFFIX) or (
        folder.name.isdecimal() and int(folder.name) >= state.next_segment
    )


BANK = Path(__file__).parent / "questions.txt"
SENTENCES = 256
SENTENCE_CHARS = 240


def load_questions(path: Path = BANK) -> list[str]:
    """The questions of a text file, one a line.

    Raises:
        BadInput: it cannot be read, or holds none.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from error
    questions = list(dict.fromkeys(line for line in lines if line.strip()))
    if not questions:
        raise BadInput(f"{path} holds no question; give a text file with one a line")
    return questions


def corpus_sentences(segments: Sequence[Segment], count: int = SENTENCES) -> list[str]:
    """Sentences from chunks at even distances, the one in the middle of each; fewer if few."""
    places = [(segment, int(c)) for segment in segments for c in np.flatnonzero(segment.live)]
    step = max(1, len(places) // count)
    found = []
    for segment, chunk in places[step // 2 :: step][:count]:
        record = segment.chunks[chunk]
        if units := record["units"]:
            start, stop = units[len(units) // 2]
            found.append(record["text"][start : min(stop, start + SENTENCE_CHARS)])
    return [sentence for sentence in dict.fromkeys(found) if sentence.strip()]


def encode_queries(encoder: KeyEncoder, texts: Sequence[str]) -> NDArray[np.float32]:
    """The query vectors of all texts: `[T, H·d]`."""
    return np.concatenate([encoder.encode_question(text) for text in texts])


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
        repeated: how often each id came again in the same call; the last document counts.
        passed_over: files in folders that were not read, and why.
        notes: of files that were read as something else than their names say.
        removed: documents that left since their files do not hold them any more.
        elsewhere: documents that are in none of the folders or files that were synchronised.
    """

    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    chunks: int = 0
    repeated: Counter[str] = field(default_factory=Counter)
    passed_over: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    removed: int = 0
    elsewhere: int = 0


class IndexWriter:
    """Puts and deletes documents, and merges segments; made by `retrieval/index/writer.py`.

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
        self._queries = manifest.queries  # those of the next merge, which may make them
        self._places: dict[str, tuple[DocumentPlace, str, str | None]] = {}
        self._repeated: set[str] = set()
        for entry in manifest.segments:
            self._register(entry)

    def __len__(self) -> int:
        """How many live documents there are."""
        return len(self._places)

    def __contains__(self, doc: str) -> bool:
        return doc in self._places

    def sources(self) -> dict[str, str]:
        """The file of each document that is of one, by the document's id."""
        return {doc: source for doc, (*_, source) in self._places.items() if source is not None}

    def put(
        self,
        documents: Iterable[CorpusDocument],
        report: DocumentCallback | None = None,
        follow: bool = False,
    ) -> PutCounts:
        """Adds documents and replaces those of the same id; unchanged ones are skipped.

        What was committed stays, whatever happens later: after an interruption, put the same
        documents again, and only the rest is indexed. Of two documents of one id the later counts.

        Args:
            follow: a document that is of another file now counts as changed.
        """
        counts = PutCounts()
        batch, batch_chunks = dict[str, tuple[CorpusDocument, list[Chunk]]](), 0
        has_models = self.models.keys or self.models.vectors or self.models.kv
        max_chunks = MODEL_BATCH_CHUNKS if has_models else BATCH_CHUNKS
        for document in self._each(documents, counts.repeated):
            indexed = self._places.get(document.id)
            is_known = indexed and indexed[1] == document_fingerprint(document)
            if follow and indexed and indexed[2] not in (None, document.source):
                is_known = False
            if is_known and document.id not in batch:
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
        return counts

    def _each(
        self, documents: Iterable[CorpusDocument], repeated: Counter[str]
    ) -> Iterator[CorpusDocument]:
        """The documents; where their ids are known to come again, the last of each, at the end."""
        ids, last = set[str](), dict[str, CorpusDocument]()
        for document in documents:
            if document.id in ids:
                repeated[document.id] += 1
            ids.add(document.id)
            if document.id in self._repeated:
                last[document.id] = document
            else:
                yield document
        yield from last.values()
        self._put_ids |= ids

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

    def unput(self) -> dict[str, str | None]:
        """The documents that this writer has not put, with the file that each is of."""
        return {doc: of[2] for doc, of in self._places.items() if doc not in self._put_ids}

    def compact(self) -> None:
        """Merges segments into as few as possible, without what was deleted."""
        while run := next_merge(self.manifest.segments, self.deleted_docs, everything=True):
            self._merge(run)

    def optimise(self, search: str = "auto", renew: bool = False) -> None:
        """Merges segments as `compact` does, and gives large ones the structure for a search.

        Args:
            search: `auto` or `graph`, `exact` for none; later segments get it, too.
            renew: compute training queries anew, and build all structures again.

        Raises:
            BadInput: no such search.
        """
        check_kind(search)
        queries = None if renew else self.manifest.queries
        if (search, queries) != (self.manifest.search, self.manifest.queries):
            self._write_manifest(search=search, queries=queries)
        before = {entry.name for entry in self.manifest.segments} if renew else set()
        self.compact()
        self._complete_structures(before or self._without_floor())

    def _without_floor(self) -> set[str]:
        """The segments whose structure was built without a floor; none if none can be fitted."""
        if self.manifest.queries is None and self.models.keys is None:
            return set()
        return {entry.name for entry in self.manifest.segments if not has_floor(entry.file_names)}

    def finish(self, exact: bool = False) -> None:
        """Merges the small segments of a build, and commits the index as complete.

        A rebuild replaces the old index now, by one rename.

        Args:
            exact: first delete the documents that this writer has not put, those of an earlier,
                interrupted build.
        """
        if exact:
            self.delete(list(self.unput()))
        if len(self.manifest.segments) > 1 or self.deleted_docs:
            self.compact()
        self._complete_structures()
        if self.manifest.complete and self._name == MANIFEST:
            return
        self._name = MANIFEST
        self._write_manifest(ends_rebuild=True, complete=True, sources=None)

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
            writer.add(document, chunks, document.id in counts.repeated)
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
        split = [(d, chunk) for d, chunks in batch for chunk in chunks]
        texts = [d.text[c.start : c.stop] for d, c in split]
        titles = [title_line(d.title, c.heading) for d, c in split]
        keys: list[list[Keys]] = [[] for _ in texts]
        encoder, keeper = self.models.keys, self.models.kv

        def take_keys(chunk: int, window: PassageTokens, layers: ExactKVLayers) -> None:
            if encoder is not None:
                keys[chunk].append(encoder.window_keys(window, layers))

        if keeper:
            observe = take_keys if self.models.read_once else None
            parts = zip(texts, titles, split, strict=True)
            passages = [Passage(text, None, line, pieces=c.pieces) for text, line, (_, c) in parts]
            write_kept_windows(writer.folder, keeper.keep_chunks(passages, observe))
        if encoder:
            # where nothing is kept: of all chunks, or of those that have no sentence
            unread = [chunk for chunk, own in enumerate(keys) if not own]
            new = encoder.encode_chunks([texts[c] for c in unread], [titles[c] for c in unread])
            for chunk, own in zip(unread, new, strict=True):
                keys[chunk].append(own)
            writer.save_keys([np.concatenate(own) for own in keys], _empty_keys(self))
        if self.models.vectors:
            pairs = zip(titles, texts, strict=True)
            lines = [f"{title}\n{text}" if title else text for title, text in pairs]
            writer.save("vectors", self.models.vectors.encode(lines).numpy().astype(np.float16))

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
        self._queries = self.manifest.queries
        merged = merge_segments(
            self.home, run, self.deleted_docs, self.manifest, self._add_structures
        )
        kept = tuple(entry for entry in self.manifest.segments if entry.name not in names)
        for name in names:
            self.deleted_docs.pop(int(name), None)
        segments = (*kept, merged) if merged.documents else kept
        self._write_manifest(
            segments=tuple(sorted(segments, key=lambda entry: entry.name)),
            next_segment=self.manifest.next_segment + 1,
            deleted=self._save_deletions(),
            queries=self._queries,
        )
        if merged.documents:
            self._register(merged)

    def _add_structures(self, folder: Path, old: Sequence[Segment]) -> None:
        """Writes structures into the folder of a segment that was merged from old ones."""
        recipe = self.manifest.settings.keys
        if not recipe:
            return
        keys = len(np.load(folder / "keys.npy", mmap_mode="r"))
        if kind_for(self.manifest.search, keys) == "graph":
            queries = self._training_queries(old)
            build_graphs(folder, len(recipe["heads"]), queries, self.report_keys)

    def _training_queries(self, old: Sequence[Segment]) -> Floats | None:
        """Those of the index; else new ones; None where no model can make them."""
        if self._queries is None and self.models.keys is not None:
            texts = [*(self.models.questions or load_questions()), *corpus_sentences(old)]
            made = encode_queries(self.models.keys, texts)
            generation = self.manifest.generation + 1
            self._queries = save_state_array(self.home, "queries", generation, made)
        if self._queries is None:
            return None
        file = CheckedFile(self.home, self._queries)
        queries: Floats = np.array(file.array())
        file.close()
        return queries

    def _commit(self, entry: SegmentEntry | None, removed: Sequence[str]) -> None:
        """Adds a segment and deletes documents by id, in one commit."""
        for doc in removed:
            (segment, document), *_ = self._places.pop(doc)
            self.deleted_docs.setdefault(segment, set()).add(document)
        segments = self.manifest.segments
        self._write_manifest(
            deleted=self._save_deletions() if removed else self.manifest.deleted,
            segments=(*segments, entry) if entry else segments,
            next_segment=self.manifest.next_segment + (entry is not None),
        )
        if entry:
            self._register(entry)

    def _save_deletions(self) -> FileEntry | None:
        pairs = [(s, doc) for s, docs in sorted(self.deleted_docs.items()) for doc in sorted(docs)]
        if not pairs:
            return None
        rows = np.array(pairs, dtype=np.int64)
        return save_state_array(self.home, "deleted", self.manifest.generation + 1, rows)

    def _write_manifest(self, ends_rebuild: bool = False, **changes: Any) -> None:
        """Commits: searches that open the index now get the new state; old files are deleted."""
        manifest = self.manifest.next_generation(**changes)
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
                    place, source = (int(entry.name), number), record.get("source")
                    self._places[record["id"]] = (place, record["fingerprint"], source)
                    if record.get("repeated"):
                        self._repeated.add(record["id"])
        finally:
            segment.close()


def _empty_keys(writer: IndexWriter) -> Any:
    """The keys of a segment without chunks."""
    recipe = writer.manifest.settings.keys or {}
    width = sum(len(mean) for mean in recipe.get("key_means", ()))
    return np.zeros((0, width), np.int8)


@contextmanager
def open_writer(home: Path, models: ChunkModels | None = None) -> Iterator[IndexWriter]:
    """Holds the write lock of an existing index and gives its writer.

    Raises:
        BadInput: there is no index. BadIndex: it is damaged. IndexBusy: another process writes.
    """
    Manifest.read(home)
    with write_lock(home / LOCK, IndexBusy):
        yield IndexWriter(home, Manifest.read(home), models or ChunkModels())


@contextmanager
def create_index(
    home: Path,
    settings: IndexSettings,
    models: ChunkModels | None = None,
    overwrite: bool = False,
    sources: str | None = None,
    search: str = "auto",
) -> Iterator[IndexWriter]:
    """Holds the write lock of a new index and gives its writer; an interrupted build is resumed.

    Args:
        overwrite: replace an existing index; searches use the old one until `finish`.
        sources: fingerprint of the corpus. A build is resumed with the same corpus only, and a
            replacement without a fingerprint starts from nothing.
        search: the structure that large segments get: `auto` or `graph`, `exact` for none.

    Raises:
        BadInput: the folder holds a complete index, part of one with other settings or of another
            corpus, or something else; no such search. IndexBusy: another process writes.
    """
    check_kind(search)
    _make_folder(home)
    with write_lock(home / LOCK, IndexBusy):
        name = BUILDING if overwrite and (home / MANIFEST).exists() else MANIFEST
        started = _read_replacement(home) if name == BUILDING else _read_existing(home)
        if started is not None and not overwrite:
            if started.complete:
                raise BadInput(
                    f"{home} holds an index already; add to it with `tamis index add {home} "
                    "CORPUS`, or replace it with --overwrite"
                )
            if difference := _describe_difference(started, settings, sources):
                raise BadInput(
                    f"{home} holds part of an index {difference}; build with those it was begun "
                    "with, or start again with --overwrite"
                )
        elif started is None or sources is None or _describe_difference(started, settings, sources):
            # segment numbers continue, so that no reader mixes old files with new ones
            number = next_segment_number(home)
            first = Manifest(settings, next_segment=number, search=search, sources=sources)
            first.write(home, name)
        yield IndexWriter(home, Manifest.read(home, name), models or ChunkModels(), name)


def _read_existing(home: Path) -> Manifest | None:
    return Manifest.read(home) if (home / MANIFEST).exists() else None


def _read_replacement(home: Path) -> Manifest | None:
    """The manifest of an interrupted rebuild; None where there is none that can be resumed."""
    try:
        return Manifest.read(home, BUILDING) if (home / BUILDING).exists() else None
    except BadIndex:
        return None


def _describe_difference(started: Manifest, settings: IndexSettings, sources: str | None) -> str:
    """How an interrupted build differs from what is wanted now, in words; empty if it does not."""
    if started.settings != settings:
        return "with other settings"
    are_known = started.sources is not None and sources is not None
    return "of another corpus" if are_known and started.sources != sources else ""


def _make_folder(home: Path) -> None:
    if home.exists() and not (home / MANIFEST).exists() and not (home / LOCK).exists():
        if not home.is_dir() or any(home.iterdir()):
            raise BadInput(f"{home} is there and no index; name a folder that is new or empty")
    try:
        (home / SEGMENTS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{home} cannot be made ({error.strerror}); name another") from error
