"""Opens the newest state of an index as a snapshot while a writer is at work; checks its files."""

from __future__ import annotations

import errno
from pathlib import Path

from tamis.probes.errors import BadIndex, BadInput
from tamis.retrieval.storage.files import CheckedFile, FileEntry, file_digest
from tamis.retrieval.storage.manifest import Manifest
from tamis.retrieval.storage.segment import Segment

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
    try:
        for entry in manifest.segments:
            opened.append(Segment(home, entry, sorted(deleted.get(int(entry.name), ()))))
    except BaseException:
        for segment in opened:
            segment.close()
        raise
    return opened


def _open_error(home: Path, manifest: Manifest, error: OSError) -> Exception:
    if error.errno not in (errno.EMFILE, errno.ENFILE):
        return BadInput(f"{error.filename} cannot be read ({error.strerror}); check the index")
    files = sum(len(entry.files) for entry in manifest.segments)
    return BadInput(
        f"the index {home} has {files} files in {len(manifest.segments)} segments and this process "
        f"may open no more ({error.strerror}); merge them with `tamis index compact {home}`, or "
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
