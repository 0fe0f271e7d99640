"""Verifies every file of an index on disk, and reports all faults rather than the first."""

from __future__ import annotations

from pathlib import Path

from tamis.retrieval.storage.files import FileEntry, file_digest
from tamis.retrieval.storage.manifest import Manifest

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
