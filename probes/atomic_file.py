"""Atomic writes: a file appears under its name when it is complete, or not at all.

NAME                 the file, as it was before or as it was written, never in between
.NAME.<hex>.tmp      being written; a process that is killed leaves it behind
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tamis.probes.errors import BadInput, TamisError

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


@contextmanager
def write_lock(path: Path, busy: type[TamisError]) -> Iterator[None]:
    """Holds the lock of those who write a folder, a file in it, that ends with the process.

    Raises:
        busy: another process holds it. BadInput: the folder cannot be written.
    """
    import fcntl

    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise BadInput(
            f"{path.parent} cannot be written ({error.strerror}); check its permissions"
        ) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            owner = os.read(handle, 20).decode("ascii", "replace").strip() or "unknown"
            raise busy(
                f"{path.parent} is being written by another process (pid {owner}); wait until it "
                "is done"
            ) from error
        os.truncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(handle)
