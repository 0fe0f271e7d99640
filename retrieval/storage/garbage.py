"""What may go from the folder of an index: everything that neither of its manifests names.

Halves that a crash left, files of older states. While an index is rebuilt, its readers are served
the old one and both are kept; of an old one that cannot be read any more nothing is known, so all
of it is kept until the new one takes its place.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tamis.probes.errors import TamisError
from tamis.retrieval.storage.files import PARTIAL_SUFFIX
from tamis.retrieval.storage.manifest import BUILDING, MANIFEST, SEGMENTS, Manifest


def remove_unreferenced(home: Path, name: str, state: Manifest) -> None:
    """Removes what is named by no manifest.

    Args:
        name: of the manifest that a writer holds. state: what it says.
    """
    other = BUILDING if name == MANIFEST else MANIFEST
    kept, readable = _read_manifest(home, other)
    segments = {card.name for of in (state, kept) if of for card in of.segments}
    (home / SEGMENTS).mkdir(exist_ok=True)
    for folder in (home / SEGMENTS).iterdir():
        if folder.name not in segments and (readable or _is_from_this_writer(folder, state)):
            shutil.rmtree(folder, ignore_errors=True)
    if readable:
        lists = {of.deleted.path for of in (state, kept) if of and of.deleted}
        for file in home.glob("deleted-*.npy"):
            if file.name not in lists:
                file.unlink(missing_ok=True)


def next_segment_number(home: Path) -> int:
    """A segment's number that no folder has and no manifest has given away."""
    found = [1]
    for name in (MANIFEST, BUILDING):
        manifest, _ = _read_manifest(home, name)
        found += [manifest.next_segment] if manifest else []
    if (home / SEGMENTS).is_dir():
        names = (folder.name.removesuffix(PARTIAL_SUFFIX) for folder in (home / SEGMENTS).iterdir())
        found += [int(name) + 1 for name in names if name.isdecimal()]
    return max(found)


def _read_manifest(home: Path, name: str) -> tuple[Manifest | None, bool]:
    """The manifest of that name, and whether all that it names is known."""
    if not (home / name).exists():
        return None, True
    try:
        return Manifest.read(home, name), True
    except TamisError:
        return None, name == BUILDING  # a rebuild that cannot be read begins anew


def _is_from_this_writer(folder: Path, state: Manifest) -> bool:
    """Whether only this writer can have made it: a half, or a number that it has yet to give."""
    return folder.name.endswith(PARTIAL_SUFFIX) or (
        folder.name.isdecimal() and int(folder.name) >= state.next_segment
    )
