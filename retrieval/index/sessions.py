"""Who may write, and where: the doors to a `Writer`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tamis.probes.errors import BadIndex, BadInput
from tamis.retrieval.index.writer import ChunkModels, IndexWriter
from tamis.retrieval.storage.files import LOCK, write_lock
from tamis.retrieval.storage.garbage import next_segment_number
from tamis.retrieval.storage.manifest import BUILDING, MANIFEST, SEGMENTS, Manifest, IndexSettings


@contextmanager
def open_writer(home: Path, readers: ChunkModels | None = None) -> Iterator[IndexWriter]:
    """The writer of an index that is there.

    Raises:
        BadInput: there is none. BadIndex: it is damaged. IndexBusy: somebody else writes.
    """
    Manifest.read(home)
    with write_lock(home):
        yield IndexWriter(home, Manifest.read(home), readers or ChunkModels())


@contextmanager
def create_index(
    home: Path,
    settings: IndexSettings,
    readers: ChunkModels | None = None,
    over: bool = False,
    sources: str | None = None,
) -> Iterator[IndexWriter]:
    """The writer of a new index, or of one whose build was cut short: that is resumed.

    Args:
        over: replace an index that is there; readers are served the old one until `finish`.
        sources: what the index is of; another corpus does not go on where this one stopped, and
            where it is not said a replacement begins anew.

    Raises:
        BadInput: a complete index is there, or a part of one with other settings or of another
            corpus; or the folder holds something else. IndexBusy: somebody else writes.
    """
    _make_folder(home)
    with write_lock(home):
        name = BUILDING if over and (home / MANIFEST).exists() else MANIFEST
        found = _read_replacement(home) if name == BUILDING else _read_existing(home)
        if found is not None and not over:
            _check_resumable(home, found, settings, sources)
        elif found is None or sources is None or _describe_difference(found, settings, sources):
            # numbers go on, so that no reader mixes old files with new
            first = Manifest(settings, next_segment=next_segment_number(home), sources=sources)
            first.write(home, name)
        yield IndexWriter(home, Manifest.read(home, name), readers or ChunkModels(), name)


def _read_existing(home: Path) -> Manifest | None:
    return Manifest.read(home) if (home / MANIFEST).exists() else None


def _read_replacement(home: Path) -> Manifest | None:
    """What a rebuild that was cut short has done; None where there is none that can go on."""
    try:
        return Manifest.read(home, BUILDING) if (home / BUILDING).exists() else None
    except BadIndex:
        return None


def _describe_difference(found: Manifest, settings: IndexSettings, sources: str | None) -> str:
    """What a build that was cut short had otherwise, in words; empty where nothing."""
    if found.settings != settings:
        return "with other settings"
    known = found.sources is not None and sources is not None
    return "of another corpus" if known and found.sources != sources else ""


def _make_folder(home: Path) -> None:
    if home.exists() and not (home / MANIFEST).exists() and not (home / LOCK).exists():
        if not home.is_dir() or any(home.iterdir()):
            raise BadInput(f"{home} is there and no index; name a folder that is new or empty")
    try:
        (home / SEGMENTS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{home} cannot be made ({error.strerror}); name another") from error


def _check_resumable(home: Path, found: Manifest, settings: IndexSettings, sources: str | None) -> None:
    if found.complete:
        raise BadInput(
            f"{home} holds an index already; add to it with `tamis index add {home} CORPUS`, "
            "or replace it with --overwrite"
        )
    if said := _describe_difference(found, settings, sources):
        raise BadInput(
            f"{home} holds part of an index {said}; build with those it was begun with, "
            "or start again with --overwrite"
        )
