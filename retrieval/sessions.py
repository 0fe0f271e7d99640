"""Who may write, and where: the doors to a `Writer`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tamis.probes.errors import BadInput
from tamis.retrieval.files import LOCK, write_lock
from tamis.retrieval.manifest import MANIFEST, SEGMENTS, Manifest, Settings
from tamis.retrieval.writer import Readers, Writer


@contextmanager
def writing(home: Path, readers: Readers | None = None) -> Iterator[Writer]:
    """The writer of an index that is there.

    Raises:
        BadInput: there is none. BadIndex: it is damaged. IndexBusy: somebody else writes.
    """
    Manifest.read(home)
    with write_lock(home):
        yield Writer(home, Manifest.read(home), readers or Readers())


@contextmanager
def creating(
    home: Path, settings: Settings, readers: Readers | None = None, over: bool = False
) -> Iterator[Writer]:
    """The writer of a new index, or of one whose first build was cut short: that is resumed.

    Args:
        over: replace an index that is there; what it held is gone at once.

    Raises:
        BadInput: a complete index is there, or a part of one with other settings; or the folder
            holds something else. IndexBusy: somebody else writes.
    """
    _make(home)
    with write_lock(home):
        found = Manifest.read(home) if (home / MANIFEST).exists() else None
        if found is not None and not over:
            _check_resumable(home, found, settings)
        elif found is None or over:
            first = Manifest(settings)
            if found is not None:  # numbers go on, so that no reader mixes old files with new
                first = Manifest(settings, found.generation + 1, next_segment=found.next_segment)
            first.write(home)
        yield Writer(home, Manifest.read(home), readers or Readers())


def _make(home: Path) -> None:
    if home.exists() and not (home / MANIFEST).exists() and not (home / LOCK).exists():
        if not home.is_dir() or any(home.iterdir()):
            raise BadInput(f"{home} is there and no index; name a folder that is new or empty")
    try:
        (home / SEGMENTS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{home} cannot be made ({error.strerror}); name another") from error


def _check_resumable(home: Path, found: Manifest, settings: Settings) -> None:
    if found.complete:
        raise BadInput(
            f"{home} holds an index already; add to it with `tamis index add {home} CORPUS`, "
            "or replace it with --overwrite"
        )
    if found.settings != settings:
        raise BadInput(
            f"{home} holds part of an index with other settings; build with those, "
            "or start again with --overwrite"
        )
