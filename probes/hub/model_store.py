"""The folders of installed models: each is complete or absent.

A model is built in a hidden folder beside its final place, `tamis.json` is written last, everything
is synced to disk, and one rename makes it visible. A process that is killed before that leaves only
a hidden folder behind, which the next pull deletes.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tamis.probes.atomic_file import sync_path
from tamis.probes.errors import BadModelFile
from tamis.probes.hub.wheel import sha256

if sys.platform != "win32":
    import fcntl

CARD = "tamis.json"


def read_card(folder: Path) -> dict[str, Any]:
    """The content of `tamis.json`: name, kind, revision, source, licence, bytes, files.

    Raises:
        BadModelFile: it is missing or cannot be read.
    """
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        files = {
            str(name): {**facts, "bytes": int(facts["bytes"]), "sha256": str(facts["sha256"])}
            for name, facts in card["files"].items()
        }
        return {**card, "files": files}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadModelFile(
            f"{folder} has no readable {CARD} ({type(error).__name__}: {error})"
        ) from error


def check_sizes(folder: Path) -> dict[str, Any]:
    """The card of a model, after checking the size of every file, without hashing.

    Raises:
        BadModelFile: a file is missing or has another size.
    """
    card = read_card(folder)
    for name, facts in card["files"].items():
        path = folder / name
        found = path.stat().st_size if path.is_file() else None
        if found != facts["bytes"]:
            state = (
                "is missing" if found is None else f"has {found} bytes instead of {facts['bytes']}"
            )
            raise BadModelFile(f"{name} {state} in {folder}")
    return card


def check_hashes(folder: Path) -> dict[str, Any]:
    """The card of a model, after checking the SHA-256 of every file.

    Raises:
        BadModelFile: a file is missing, incomplete or changed; the message names both hashes.
    """
    card = check_sizes(folder)
    for name, facts in card["files"].items():
        found = sha256(folder / name)
        if found != facts["sha256"]:
            raise BadModelFile(
                f"{name} in {folder} has SHA-256 {found} and was installed with {facts['sha256']}"
            )
    return card


def seal(folder: Path, facts: Mapping[str, Any]) -> None:
    """Writes `tamis.json` about the folder's files, and syncs everything to disk."""
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    sizes = {name: (folder / name).stat().st_size for name in names}
    files = {name: {"bytes": sizes[name], "sha256": sha256(folder / name)} for name in names}
    card = {**facts, "bytes": sum(sizes.values()), "files": files}
    (folder / CARD).write_text(json.dumps(card, indent=2), encoding="utf-8")
    # safetensors makes its file private to the owner; a shared cache needs what the umask allows
    mode = stat.S_IMODE((folder / CARD).stat().st_mode)
    for path in folder.iterdir():
        path.chmod(mode)
        sync_path(path)
    sync_path(folder)


def publish(built: Path, place: Path) -> None:
    """Renames a sealed folder to its final place, unless the same model is already there.

    Anything else at that place is deleted first.
    """
    if place.exists():
        if _is_same_model(built, place):
            return
        discard(place)
    try:
        built.rename(place)
    except OSError:  # another process was faster; its copy is equivalent
        if not _is_same_model(built, place):
            raise
    sync_path(place.parent)


def _is_same_model(built: Path, place: Path) -> bool:
    try:
        return bool(check_sizes(place)["revision"] == read_card(built)["revision"])
    except BadModelFile:
        return False


def discard(place: Path) -> int:
    """Deletes a model in one visible step; returns the bytes freed, 0 if there was none."""
    aside = _hidden_path(place)
    try:
        place.rename(aside)
    except FileNotFoundError:
        return 0
    freed = sum(path.stat().st_size for path in aside.rglob("*") if path.is_file())
    shutil.rmtree(aside, ignore_errors=True)
    return freed


@contextmanager
def build_folder(place: Path) -> Iterator[Path]:
    """A new hidden folder beside the final place, deleted at the end of the block."""
    folder = _hidden_path(place)
    folder.mkdir(parents=True)  # mkdtemp's would be closed to other users of a shared cache
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def lock_model(place: Path) -> Iterator[None]:
    """Lets one thread of one process build at a time; a killed process releases its lock.

    Where the file system or the platform has no locks, two may build at once; `publish` allows it.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    with (place.parent / f".lock-{place.name}").open("a") as handle:
        if _acquire(handle.fileno()):
            for leftover in place.parent.glob(f".{place.name}.*"):  # of killed processes
                shutil.rmtree(leftover, ignore_errors=True)
        yield


def _acquire(descriptor: int) -> bool:
    if sys.platform == "win32":
        return False
    with contextlib.suppress(OSError):  # NFS without a lock daemon answers ENOLCK
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return True
    return False


def _hidden_path(place: Path) -> Path:
    return place.parent / f".{place.name}.{secrets.token_hex(6)}"
