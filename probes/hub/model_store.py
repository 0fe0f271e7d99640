"""Where models lie: one folder a model, whole or absent.

A model is built in a hidden folder beside its place, `tamis.json` is written last, everything is
forced to disk, and one rename makes it visible. Whoever is killed before that leaves only a hidden
folder, which the next pull sweeps away.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tamis.probes.errors import BadModelFile
from tamis.probes.hub.wheel import sha256

if sys.platform != "win32":
    import fcntl

CARD = "tamis.json"


def read_card(folder: Path) -> dict[str, Any]:
    """What `tamis.json` says: name, kind, revision, source, licence, bytes, files.

    Raises:
        BadModelFile: there is none, or it cannot be read.
    """
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        return {**card, "files": {str(name): dict(facts) for name, facts in card["files"].items()}}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadModelFile(
            f"{folder} has no readable {CARD} ({type(error).__name__}: {error})"
        ) from error


def check_sizes(folder: Path) -> dict[str, Any]:
    """The card of a model whose files all have the size they were installed with; no hashing.

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
    """The card of a model whose files all have the SHA-256 they were installed with.

    Raises:
        BadModelFile: a file is missing, torn or changed; both hashes are named.
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
    """Writes `tamis.json` over the folder's files and forces all of them to disk."""
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    sizes = {name: (folder / name).stat().st_size for name in names}
    files = {name: {"bytes": sizes[name], "sha256": sha256(folder / name)} for name in names}
    card = {**facts, "bytes": sum(sizes.values()), "files": files}
    (folder / CARD).write_text(json.dumps(card, indent=2), encoding="utf-8")
    # safetensors creates its file for the owner alone; a shared cache needs what the umask allows
    mode = stat.S_IMODE((folder / CARD).stat().st_mode)
    for path in folder.iterdir():
        path.chmod(mode)
        _to_disk(path)
    _to_disk(folder)


def publish(built: Path, place: Path) -> None:
    """Renames a sealed folder to its place, unless the same model is there by now, whole.

    Anything else that lies there is moved aside first.
    """
    if place.exists():
        if _is_same_model(built, place):
            return
        discard(place)
    try:
        built.rename(place)
    except OSError:  # another process was faster by a hair; its copy is as good
        if not _is_same_model(built, place):
            raise
    _to_disk(place.parent)


def _is_same_model(built: Path, place: Path) -> bool:
    try:
        return bool(check_sizes(place)["revision"] == read_card(built)["revision"])
    except BadModelFile:
        return False


def discard(place: Path) -> int:
    """Deletes a model so that nobody ever sees half of it; returns the bytes freed, 0 if none."""
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
    """A new hidden folder beside the place, gone at the end unless it was put there."""
    folder = _hidden_path(place)
    folder.mkdir(
        parents=True
    )  # not mkdtemp: that one is closed to every other user of a shared cache
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def lock_model(place: Path) -> Iterator[None]:
    """One builder at a time, among threads and processes; the lock of a killed one is free at once.

    Where the file system or the platform has no locks, two may build at once, and `put` settles it.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    with (place.parent / f".lock-{place.name}").open("a") as handle:
        if _acquire(handle.fileno()):
            _remove_leftovers(place)
        yield


def _acquire(descriptor: int) -> bool:
    if sys.platform == "win32":
        return False
    with contextlib.suppress(OSError):  # NFS without a lock daemon answers ENOLCK
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return True
    return False


def _remove_leftovers(place: Path) -> None:
    """Deletes what killed builders left. Only for the lock's holder: nobody else is building."""
    for left in place.parent.glob(f".{place.name}.*"):
        shutil.rmtree(left, ignore_errors=True)


def _hidden_path(place: Path) -> Path:
    return place.parent / f".{place.name}.{secrets.token_hex(6)}"


def _to_disk(path: Path) -> None:
    if path.is_dir() and sys.platform == "win32":
        return  # Windows opens no folders
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
