"""Files that a command writes at its end: checked before anything is read, written whole."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tamis.probes.atomic_file import atomic_path
from tamis.probes.errors import BadInput
from tamis.service.cli.display.text import print_note

_DEVICE_FOLDERS = ("/dev/", "/proc/")
IMAGE_SUFFIXES = (".png", ".svg", ".pdf", ".jpg", ".webp")


def check_targets(*paths: Path | None) -> None:
    """Checks that files can be written, before hours of work.

    Raises:
        BadInput: one of them cannot be written.
    """
    for path in paths:
        if path is None:
            continue
        why = ""
        if path.is_dir():
            why = "it is a folder"
        elif not path.parent.is_dir():
            why = f"there is no folder {path.parent}"
        elif not os.access(path if path.exists() else path.parent, os.W_OK):
            why = "permission denied"
        if why:
            raise BadInput(f"{path} cannot be written: {why}; name another file")


def check_images(*paths: Path | None) -> None:
    """Checks that images can be written, whose suffix decides their format.

    Raises:
        BadInput: one of them cannot be written, or has the suffix of no image format.
        MissingExtra: matplotlib is not installed.
    """
    from tamis.service.evaluation.evidence.plot import figure_class

    check_targets(*paths)
    for path in filter(None, paths):
        figure_class()
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            raise BadInput(f"{path} ends in {path.suffix or 'nothing'}; draw a .png, .svg or .pdf")


def check_probe_target(path: Path) -> None:
    """Checks that a probe can be written, whose folder is created if it does not exist.

    Raises:
        BadInput: it cannot be written.
    """
    from tamis.probes.probing.linear import probe_files

    if not path.name:
        raise BadInput(f"{path} cannot be written: it is a folder; name a file")
    for file in probe_files(path):
        existing = next(folder for folder in (file.parent, *file.parent.parents) if folder.exists())
        check_targets(existing / file.name if existing != file.parent else file)


def write_json(report: Mapping[str, Any], path: Path) -> None:
    """Writes a report as JSON, and prints where.

    Raises:
        BadInput: it cannot be written.
    """
    try:
        write_whole(path, (json.dumps(report, indent=1) + "\n").encode())
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error}") from error
    print_note(f"wrote {path}")


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file at once: if the writing fails or is interrupted, an older file stays.

    A replaced file keeps its permissions, and a symbolic link still points to it. Pipes, devices
    and files in folders that accept no new file are written in place.

    Raises:
        OSError: it cannot be written.
    """
    file = Path(os.path.realpath(path))
    if not _is_replaceable(path, file):
        path.write_bytes(data)
        return
    try:
        with atomic_path(file) as temporary:
            temporary.touch()
            if file.exists():
                shutil.copymode(file, temporary)
            temporary.write_bytes(data)
    except OSError as error:  # which names the temporary file
        raise OSError(error.errno, error.strerror, str(path)) from error


def _is_replaceable(path: Path, file: Path) -> bool:
    """Whether a new file can take the place of what `path` names, which is `file` without links."""
    if os.path.abspath(path).startswith(_DEVICE_FOLDERS):
        return False  # /dev/stdout may be a file that others go on writing to
    if path.exists() and not (path.is_file() and os.access(path, os.W_OK)):
        return False
    return os.access(file.parent, os.W_OK)
