"""Opens an index for writing: an existing one to change, or a new one to build."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tamis.probes.errors import BadIndex, BadInput
from tamis.retrieval.approximate.segment_search import check_kind
from tamis.retrieval.index.writer import ChunkModels, IndexWriter
from tamis.retrieval.storage.compaction import next_segment_number
from tamis.retrieval.storage.files import LOCK, write_lock
from tamis.retrieval.storage.manifest import BUILDING, MANIFEST, SEGMENTS, IndexSettings, Manifest


@contextmanager
def open_writer(home: Path, models: ChunkModels | None = None) -> Iterator[IndexWriter]:
    """Holds the write lock of an existing index and gives its writer.

    Raises:
        BadInput: there is no index. BadIndex: it is damaged. IndexBusy: another process writes.
    """
    Manifest.read(home)
    with write_lock(home):
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
        search: the structure that large segments get: `auto` or `graph`, `ivf`, `exact` for none.

    Raises:
        BadInput: the folder holds a complete index, part of one with other settings or of another
            corpus, or something else; no such search. IndexBusy: another process writes.
        MissingExtra: `ivf` needs FAISS, which is not installed.
    """
    check_kind(search)
    _make_folder(home)
    with write_lock(home):
        name = BUILDING if overwrite and (home / MANIFEST).exists() else MANIFEST
        started = _read_replacement(home) if name == BUILDING else _read_existing(home)
        if started is not None and not overwrite:
            _check_resumable(home, started, settings, sources)
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


def _check_resumable(
    home: Path, started: Manifest, settings: IndexSettings, sources: str | None
) -> None:
    if started.complete:
        raise BadInput(
            f"{home} holds an index already; add to it with `tamis index add {home} CORPUS`, "
            "or replace it with --overwrite"
        )
    if difference := _describe_difference(started, settings, sources):
        raise BadInput(
            f"{home} holds part of an index {difference}; build with those it was begun with, "
            "or start again with --overwrite"
        )
