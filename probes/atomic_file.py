"""Atomic writes: a file appears under its name when it is complete, or not at all.

NAME                 the file, as it was before or as it was written, never in between
.NAME.<hex>.tmp      being written; a process that is killed leaves it behind
"""

from __future__ import annotations

import errno
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TEMPORARY_GLOB = ".*.tmp"
"""Matches, within a folder, the temporary files of `atomic_path`."""

_CANNOT_SYNC_FOLDERS = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)


@contextmanager
def atomic_path(path: Path, *, sync: bool = False) -> Iterator[Path]:
    """A temporary path in the folder of `path` to write to, which replaces `path` on success.

    If the block fails, the temporary file is deleted and `path` stays as it was.

    Args:
        sync: wait until the content is on disk before the replacement, and the folder after it,
            so that a power cut leaves the old file or the new one whole.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        yield temporary
        if sync:
            sync_path(temporary)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    if sync:
        _sync_folder(path.parent)


def sync_path(path: Path) -> None:
    """Waits until the content of a file, or the names in a folder, are on disk."""
    if path.is_dir() and sys.platform == "win32":
        return  # Windows opens no folders
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    """Waits for a folder where the file system can do that; some refuse to sync a folder."""
    try:
        sync_path(folder)
    except PermissionError:
        return  # a folder may be writable without being readable
    except OSError as error:
        if error.errno not in _CANNOT_SYNC_FOLDERS:
            raise
