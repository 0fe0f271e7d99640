"""The newest state of an index, whole, though a writer may be at work."""

from __future__ import annotations

import errno
from pathlib import Path

from tamis.probes.errors import BadIndex, BadInput
from tamis.retrieval.storage.files import FileEntry, CheckedFile
from tamis.retrieval.storage.manifest import Manifest
from tamis.retrieval.storage.segment import Segment

_ATTEMPTS = 10


def open_newest(home: Path) -> tuple[Manifest, list[Segment]]:
    """The manifest and its segments, all files opened: nobody can take them away any more.

    Tried again where a writer swept files away between the reading of the manifest and their
    opening; then there is a newer manifest.

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


def read_deletions(home: Path, card: FileEntry | None) -> dict[int, set[int]]:
    """Per segment number the documents that no longer count."""
    dead: dict[int, set[int]] = {}
    if card is not None:
        guard = CheckedFile(home, card)
        for segment, document in guard.array():
            dead.setdefault(int(segment), set()).add(int(document))
        guard.close()
    return dead


def _open_segments(home: Path, manifest: Manifest) -> list[Segment]:
    dead = read_deletions(home, manifest.deleted)
    found: list[Segment] = []
    try:
        for card in manifest.segments:
            found.append(Segment(home, card, sorted(dead.get(int(card.name), ()))))
    except BaseException:
        for segment in found:
            segment.close()
        raise
    return found


def _open_error(home: Path, manifest: Manifest, error: OSError) -> Exception:
    if error.errno not in (errno.EMFILE, errno.ENFILE):
        return BadInput(f"{error.filename} cannot be read ({error.strerror}); check the index")
    files = sum(len(card.files) for card in manifest.segments)
    return BadInput(
        f"the index {home} has {files} files in {len(manifest.segments)} segments and this process "
        f"may open no more ({error.strerror}); merge them with `tamis index compact {home}`, or "
        "allow more with `ulimit -n`"
    )
