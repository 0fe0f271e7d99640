"""Files that a command writes at its end: written whole."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tamis.probes.atomic_file import atomic_path

_DEVICE_FOLDERS = ("/dev/", "/proc/")


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
