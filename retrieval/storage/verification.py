"""Every file of an index as it lies on disk, read whole: all that is wrong, not the first of it."""

from __future__ import annotations

from pathlib import Path

from tamis.retrieval.storage.files import FileEntry, file_digest
from tamis.retrieval.storage.manifest import Manifest

MISMATCH = "its bytes do not match the checksum"


def find_faults(home: Path) -> list[str]:
    """What is wrong with an index, each with its file; none where all is as it was written.

    A writer may be at work: where it took files away meanwhile, those of its new state are read.

    Raises:
        BadInput: there is no index. BadIndex: its manifest is damaged.
    """
    while True:
        manifest = Manifest.read(home)
        cards = [card for segment in manifest.segments for card in segment.files]
        cards += [manifest.deleted] if manifest.deleted else []
        found = [f"{card.path}: {why}" for card in cards if (why := _fault(home, card))]
        if not found or Manifest.read(home) == manifest:
            return found


def _fault(home: Path, card: FileEntry) -> str:
    path = Path(card.path)
    if path.is_absolute() or ".." in path.parts:
        return "it lies outside the index"
    try:
        size = (home / path).stat().st_size
        if size != card.size:
            return f"it has {size} bytes and {card.size} were written"
        return "" if file_digest(home / path) == card.blake2b else MISMATCH
    except OSError as error:
        return str(error.strerror)
