"""`tamis.open_index`, and building, extending and searching an index with its models."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tamis.compressors.registry import DEFAULT_PROXY
from tamis.probes.errors import BadIndex, BadInput, TamisError
from tamis.probes.hub import zoo
from tamis.probes.pooling import DEFAULT_POOLING, POOLINGS
from tamis.retrieval.approximate.segment_search import check_kind
from tamis.retrieval.index.legs import SearchEngine
from tamis.retrieval.index.models import ChunkModels, load_encoder
from tamis.retrieval.index.store import CorpusIndex, Hits
from tamis.retrieval.index.writer import (
    DocumentCallback,
    PutCounts,
    create_index,
    load_questions,
    open_writer,
)
from tamis.retrieval.keys.recipe import KeyRecipe, shipped_recipe
from tamis.retrieval.storage.chunks import CHUNK_CHARS
from tamis.retrieval.storage.manifest import IndexSettings, Manifest
from tamis.service.files.corpus import (
    CorpusFields,
    ReadingNotes,
    corpus_fingerprint,
    find_corpus_files,
    is_below,
    read_documents,
    source_place,
)

if TYPE_CHECKING:
    from tamis.service.api.kept_chunks import ChunkKeeper

VECTORS = {"minilm": "minilm-l6"}
log = logging.getLogger("tamis")


def open_index(
    folder: str | Path,
    *,
    proxy: Any = None,
    encoder: Any = None,
    root: Path | None = None,
    device: str = "auto",
    engine: SearchEngine = "local",
) -> CorpusIndex:
    """Opens an index that `tamis index build` made; models are loaded when first used.

    Args:
        device: where they are loaded to, unless a loaded proxy is given: then where that is.
        engine: `ray` searches keys on a Ray cluster, a segment an actor: `pip install tamis[ray]`.

    Raises:
        BadInput: there is no index. BadIndex: it is damaged.
    """
    if engine == "ray":
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would send statistics
    return CorpusIndex.open(
        folder, proxy=proxy, encoder=encoder, root=root, device=device, engine=engine
    )


class IndexPool:
    """An index that other processes write to and threads search; keeps open each state in use.

    Args:
        index: the first state.
        owned: nobody else uses that state, so it may be closed when a newer one takes its place.
    """

    def __init__(self, index: CorpusIndex, owned: bool = True) -> None:
        self._newest, self._lock = index, threading.Lock()
        self._kept = None if owned else index
        self._readers: Counter[CorpusIndex] = Counter()

    def search(self, *args: Any, **options: Any) -> Hits:
        """As `CorpusIndex.search`, in the state committed last."""
        with self._borrow_newest() as index:
            return index.search(*args, **options)

    def rank_retrieved(self, *args: Any, **options: Any) -> Hits:
        """As `ask_context.rank_retrieved`, in the state committed last."""
        from tamis.service.api.ask_context import rank_retrieved

        with self._borrow_newest() as index:
            return rank_retrieved(index, *args, **options)

    @contextmanager
    def _borrow_newest(self) -> Iterator[CorpusIndex]:
        with self._lock:
            index = self._refresh()
            self._readers[index] += 1
        try:
            yield index
        finally:
            with self._lock:
                self._readers[index] -= 1
                self._close_if_unused(index)

    def _refresh(self) -> CorpusIndex:
        """The newest state; if it cannot be opened, the state served so far stays."""
        old = self._newest
        try:
            self._newest = old.newest()
        except TamisError as error:
            log.warning(
                "index not refreshed",
                extra={"index": str(old.folder), "why": str(error)},
            )
        self._close_if_unused(old)
        return self._newest

    def _close_if_unused(self, index: CorpusIndex) -> None:
        """Closes a state that is neither the newest nor in use."""
        if self._readers[index] == 0:
            del self._readers[index]
            if index is not self._newest and index is not self._kept:
                index.close()


def index_settings(
    *,
    model: bool = True,
    vectors: str | None = None,
    recipe: Path | None = None,
    proxy: str | None = None,
    language: str = "en",
    chunk_chars: int = CHUNK_CHARS,
    keep_kv: bool = False,
    root: Path | None = None,
) -> IndexSettings:
    """The settings of a new index.

    Args:
        model: whether the proxy reads the chunks for keys; without, the index has BM25 alone.
        vectors: `minilm` adds sentence vectors, `minilm:last` and the like those of another
            pooling of `probes/poolings/`. recipe: a file of `tamis lab fit-recipe`, instead of
            the one that ships for the proxy.
        proxy: the model of the keys. None: the one that keeps chunks, which then reads each once
            for both, where a recipe ships for it; else the default. keep_kv: keep chunks as they
            were read by the model that `ask_context` reads with, so that it need not read them
            again. root: the folder that holds models.

    Raises:
        BadInput: there is no recipe for this proxy, no such vectors or pooling, or `chunk_chars` is
            below 1.
            ProxyMissing: the model that keeps chunks is not on this machine.
    """
    if chunk_chars < 1:
        raise BadInput(f"chunks of {chunk_chars} characters hold nothing; give at least 1")
    encoder = _vectors_name(vectors) if vectors is not None else None
    kv = None
    if keep_kv:
        from tamis.service.api.kept_chunks import reading_settings

        kv = reading_settings(language, root)
    kept_by = kv["model"] if kv and shipped_recipe(kv["model"]) else DEFAULT_PROXY
    keys = _load_recipe(proxy or kept_by, recipe).as_json() if model else None
    # as it is read again, with lists for tuples, so that settings can be compared
    return IndexSettings(chunk_chars, language, json.loads(json.dumps(keys)), encoder, kv)


def _vectors_name(vectors: str) -> str:
    """What an index calls its vectors: the encoder, and its pooling where it is not the mean."""
    name, _, pooling = vectors.partition(":")
    if name not in VECTORS:
        raise BadInput(f"there are no vectors {name!r}; choose from {', '.join(VECTORS)}")
    POOLINGS.check(pooling or DEFAULT_POOLING)
    return VECTORS[name] + (f":{pooling}" if pooling not in ("", DEFAULT_POOLING) else "")


def build_index(
    home: Path,
    paths: Sequence[str],
    settings: IndexSettings,
    *,
    fields: CorpusFields = CorpusFields(),  # noqa: B008  (frozen)
    encoding: str = "utf-8",
    proxy: str | Path | None = None,
    root: Path | None = None,
    overwrite: bool = False,
    search: str = "auto",
    questions: Path | None = None,
    report: DocumentCallback | None = None,
) -> PutCounts:
    """Builds an index of a corpus; an interrupted build is resumed.

    In a folder, a file that cannot be read is passed over, and listed with its reason.

    Args:
        search: the structure that large segments get: `auto`, `graph`, or `exact` for none.
        questions: a text file with questions that the graph follows, one a line.

    Raises:
        BadInput: an index exists already, or the corpus or the questions cannot be read. IndexBusy:
            another process writes to it. ProxyMissing: a model is not on this machine.
    """
    check_kind(search)
    _check_has_keys(settings, search, questions)
    found, notes = find_corpus_files(paths), ReadingNotes()
    asked = load_questions(questions) if questions else ()
    readers = replace(load_readers(settings, proxy, root), questions=asked)
    sources = corpus_fingerprint(paths)
    with create_index(home, settings, readers, overwrite, sources, search) as writer:
        counted = writer.put(read_documents(found, fields, encoding, notes, home), report)
        writer.finish(exact=True)
    return replace(counted, passed_over=notes.passed_over, notes=notes.faults)


def _check_has_keys(settings: IndexSettings, search: str, questions: Path | None) -> None:
    if settings.keys is None and (search == "graph" or questions):
        raise BadInput(
            "an index of words alone has no keys to search: leave out the search and its questions"
        )


def add_documents(
    home: Path,
    paths: Sequence[str],
    *,
    fields: CorpusFields = CorpusFields(),  # noqa: B008
    encoding: str = "utf-8",
    proxy: str | Path | None = None,
    root: Path | None = None,
    report: DocumentCallback | None = None,
    sync: bool = False,
    allow_empty: bool = False,
) -> PutCounts:
    """Adds documents to an index; a document whose id exists is replaced.

    Args:
        sync: remove what the index has of the paths and they have no more. Documents of a file that
            is there and cannot be read stay, and those of other files.
        allow_empty: whether all documents may be removed, as of a folder without files.

    Raises:
        As `build_index`; BadInput also where there is no index.
    """
    readers = load_readers(Manifest.read(home).settings, proxy, root)
    notes, gone, elsewhere = ReadingNotes(), list[str](), 0
    with open_writer(home, readers) as writer:
        found = find_corpus_files(paths, home, writer.sources(), allow_empty)
        counted = writer.put(read_documents(found, fields, encoding, notes, home), report, sync)
        if sync:
            # of rows that cannot be read nobody knows the ids
            unread = {file.place for file in found if file.path in notes.unread}
            places = {doc: source_place(home, of) for doc, of in writer.unput().items()}
            others = {doc: place for doc, place in places.items() if place not in unread}
            gone = [doc for doc, place in others.items() if is_below(place, paths)]
            if gone and len(gone) == len(writer) and not allow_empty:
                raise BadInput(
                    f"{', '.join(paths)} hold none of the index's {len(gone):,} documents any "
                    "more; to remove them all, give --allow-empty"
                )
            writer.delete(gone)
            elsewhere = len(others) - len(gone)
    return replace(
        counted,
        passed_over=notes.passed_over,
        notes=notes.faults,
        removed=len(gone),
        elsewhere=elsewhere,
    )


def optimise_index(
    home: Path,
    search: str = "auto",
    *,
    questions: Path | None = None,
    proxy: str | Path | None = None,
    root: Path | None = None,
    report: Callable[[int], None] = lambda keys: None,
) -> None:
    """Merges the segments of an index without what was deleted; large ones get a structure.

    Args:
        search: `auto`, `graph`, or `exact` for none; what is added later gets it, too.
        questions: a text file with questions that the graph follows, one a line; all structures are
            then built again.
        report: called with how many more keys a structure has taken in, of each head.

    Raises:
        BadInput: there is no index, or no such search, or the index has no keys to search so, or
            the questions cannot be read. IndexBusy: another process writes to it. ProxyMissing: the
            model that makes training queries is not here.
    """
    settings = Manifest.read(home).settings
    check_kind(search)
    _check_has_keys(settings, search, questions)
    asked = load_questions(questions) if questions else ()
    readers = load_readers(replace(settings, vectors=None, kv=None), proxy, root)
    with open_writer(home, replace(readers, questions=asked)) as writer:
        writer.report_keys = report
        writer.optimise(search, renew=questions is not None)


def load_readers(
    settings: IndexSettings, proxy: str | Path | None = None, root: Path | None = None
) -> ChunkModels:
    """The models that read an index's chunks; one for keys alone is loaded as deep as its heads.

    Where the model that keeps chunks is that of the keys, it reads each chunk once for both.
    """
    keys = vectors = keeper = None
    if settings.kv is not None:
        from tamis.service.api.kept_chunks import load_keeper

        keeper = load_keeper(settings, root)
    if settings.keys is not None:
        from tamis.retrieval.keys.encoder import KeyEncoder

        recipe = KeyRecipe.from_json(settings.keys)
        if keeper is not None and proxy in (None, recipe.model) and _can_read(keeper, recipe):
            keys = KeyEncoder(keeper.proxy, recipe)
        else:
            name, depth = proxy or recipe.model, recipe.layers[-1] + 1
            keys = KeyEncoder(zoo.load_proxy(name, layers=depth, root=root), recipe)
    if settings.vectors is not None:
        vectors = load_encoder(settings.vectors, root)
    return ChunkModels(keys, vectors, kv=keeper)


def _can_read(keeper: ChunkKeeper, recipe: KeyRecipe) -> bool:
    """Whether the model that keeps chunks gives the keys of a recipe, too."""
    card, wanted = keeper.proxy.card, (recipe.model, recipe.revision)
    return (card.name, card.revision) == wanted and keeper.layers > recipe.layers[-1]


def _load_recipe(proxy: str, file: Path | None) -> KeyRecipe:
    if file is not None:
        try:
            return KeyRecipe.from_json(json.loads(file.read_text("utf8")))
        except (OSError, ValueError, RecursionError, BadIndex) as error:
            raise BadInput(f"{file} cannot be read as a recipe: {error}") from error
    found = shipped_recipe(Path(proxy).name)
    if found is None:
        raise BadInput(
            f"no recipe for keys of {proxy} ships with tamis; fit one with `tamis lab fit-recipe`, "
            "or index words alone with --no-model"
        )
    return found
