"""Garbage collection in the folder of an index: what neither of its manifests names is deleted.

That is: files that a crash left unfinished, and files of older generations. While an index is
rebuilt, readers still use the old one, so the files of both are kept. If the old manifest cannot be
read, it is not known which files it names: all of them are kept until the rebuild replaces it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tamis.probes.atomic_file import TEMPORARY_GLOB
from tamis.probes.errors import TamisError
from tamis.retrieval.storage.files import PARTIAL_SUFFIX
from tamis.retrieval.storage.manifest import BUILDING, MANIFEST, SEGMENTS, Manifest


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
