"""Files at local paths and fsspec URLs: where they are, and how one is written atomically."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tamis.probes.atomic_file import atomic_path
from tamis.probes.errors import BadInput, MissingExtra


def filesystem(url: str) -> tuple[Any, str]:
    """The fsspec file system of a path or URL, and the path on it.

    Raises:
        BadInput: the protocol is unknown, or the file system cannot be reached.
        MissingExtra: the package for the protocol is not installed.
    """
    from fsspec.core import url_to_fs

    try:
        fs, path = url_to_fs(url)
    except ImportError as error:
        raise MissingExtra(f"{url} needs another package: {error}") from error
    except (ValueError, OSError) as error:
        raise BadInput(f"{url} cannot be opened ({error}); give a path or a URL") from error
    return fs, str(path)


def is_local(fs: Any) -> bool:
    """Whether files can be replaced by renaming; elsewhere a single put is complete or absent."""
    protocol = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
    return protocol in ("file", "local")


def write_file(fs: Any, path: str, data: bytes, *, durable: bool = True) -> None:
    """Writes a file atomically: a reader finds all of it or none.

    On a local disk a temporary file replaces it; elsewhere it is one put, which object stores show
    when it is complete.

    Args:
        durable: whether the file must survive a power cut; if not, the system flushes it later.

    Raises:
        BadInput: no space or no permission; no temporary file remains.
    """
    try:
        if is_local(fs):
            _write_local(Path(path), data, durable)
        else:
            fs.makedirs(fs._parent(path), exist_ok=True)
            fs.pipe_file(path, data)
    except OSError as error:
        raise BadInput(
            f"{path} cannot be written ({error_reason(error)}); parts that are done are kept, "
            "so make room and run the same command again"
        ) from error


def _write_local(path: Path, data: bytes, durable: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path, sync=durable) as temporary:
        temporary.write_bytes(data)


def error_reason(error: OSError) -> str:
    """The system's description of an error."""
    return error.strerror or str(error) or type(error).__name__
