"""Files here and elsewhere: opened through fsspec, unpacked by suffix, written in one piece."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import uuid
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

from tamis.probes.errors import BadInput, MissingExtra

CODECS = (".gz", ".zst")
_BUFFER = 1 << 20
_PIECE = 1 << 12
"""Of a .zst: 4 KiB may unpack to 128 MiB and no more, so a bomb does not fill the memory."""


def filesystem(url: str) -> tuple[Any, str]:
    """The file system of a path or URL, and the path on it.

    Raises:
        BadInput: no such protocol, or it cannot be reached.
        MissingExtra: the package for that protocol is not installed.
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
    """Whether files are replaced by renaming; elsewhere a single put is whole or not there."""
    protocol = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
    return protocol in ("file", "local")


def opened(url: str) -> IO[bytes]:
    """A file's bytes, unpacked where its name ends in .gz or .zst; those are only read forwards.

    Raises:
        BadInput: it cannot be opened; while it is read, where it is packed: it is damaged or cut
            off. MissingExtra: .zst without the package for it.
    """
    fs, path = filesystem(url)
    try:
        raw = fs.open(path, "rb")
    except OSError as error:
        raise BadInput(f"{url} cannot be read ({reason(error)}); check the name") from error
    codec = codec_of(path)
    if codec is None:
        return cast(IO[bytes], raw)
    blocks = _members(raw) if codec == ".gz" else _frames(raw, zstandard())
    return cast(IO[bytes], io.BufferedReader(cast(Any, _Unpacked(url, raw, blocks)), _BUFFER))


def codec_of(name: str) -> str | None:
    """How a file of that name is packed, in whatever case; None for one that is not."""
    return next((codec for codec in CODECS if name.lower().endswith(codec)), None)


class _Unpacked(io.RawIOBase):
    """Blocks of bytes as a stream; what is wrong with the packing is told with the file's name."""

    def __init__(self, url: str, raw: Any, blocks: Iterator[bytes]) -> None:
        self.url, self.raw, self.blocks = url, raw, blocks
        self.rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        try:
            while not self.rest and (block := next(self.blocks, None)) is not None:
                self.rest = memoryview(block)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise BadInput(f"{self.url} is damaged ({error}); bring a whole copy") from error
        except OSError as error:
            raise BadInput(
                f"{self.url} cannot be read any further ({reason(error)}); try again"
            ) from error
        size = min(len(target), len(self.rest))
        target[:size], self.rest = self.rest[:size], self.rest[size:]
        return size

    def close(self) -> None:
        self.raw.close()
        super().close()


def _members(raw: Any) -> Iterator[bytes]:
    return iter(partial(gzip.GzipFile(fileobj=raw).read1, _BUFFER), b"")


def _frames(raw: Any, package: Any) -> Iterator[bytes]:
    """Frame by frame: a reader across frames does not tell that the last one has no end."""
    unpacker, frame = package.ZstdDecompressor(), None
    try:
        while piece := raw.read(_PIECE):
            while piece:
                frame = frame or unpacker.decompressobj()
                yield frame.decompress(piece)
                piece = frame.unused_data if frame.eof else b""
                frame = None if frame.eof else frame
    except package.ZstdError as error:
        raise EOFError(str(error)) from error
    if frame is not None:
        raise EOFError("the file ends before its last frame does")


def packed(data: bytes, name: str) -> bytes:
    """The bytes as a file of that name holds them; the same for the same data."""
    if name.endswith(".gz"):
        return gzip.compress(data, 6, mtime=0)
    if name.endswith(".zst"):
        return cast(bytes, zstandard().ZstdCompressor(level=3).compress(data))
    return data


def zstandard() -> Any:
    """The package, or what installs it."""
    try:
        import zstandard as package
    except ImportError as error:
        raise MissingExtra('.zst needs a package: pip install "tamis[batch]"') from error
    return package


def pyarrow() -> Any:
    """The package, or what installs it."""
    try:
        import pyarrow as package
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra('Parquet needs a package: pip install "tamis[batch]"') from error
    return package


def put(fs: Any, path: str, data: bytes, *, durable: bool = True) -> None:
    """Writes a file in one piece: a reader finds all of it or none.

    On a local disk: a file beside it, flushed to the disk, then renamed. Elsewhere one put, which
    object stores show when it is complete.

    Args:
        durable: whether it has to outlive a power cut; else the system flushes it when it likes.

    Raises:
        BadInput: no space, no permission; nothing is left behind.
    """
    try:
        if is_local(fs):
            _put_local(Path(path), data, durable)
        else:
            fs.makedirs(fs._parent(path), exist_ok=True)
            fs.pipe_file(path, data)
    except OSError as error:
        raise BadInput(
            f"{path} cannot be written ({reason(error)}); parts that are done are kept, "
            "so make room and run the same command again"
        ) from error


def _put_local(path: Path, data: bytes, durable: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        with beside.open("xb") as stream:
            stream.write(data)
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        beside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
    if durable:
        _flush_folder(path.parent)


def _flush_folder(folder: Path) -> None:
    """A rename outlives a power cut once its folder is on the disk; not all systems can do it."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def reason(error: OSError) -> str:
    """What the system said, in words."""
    return error.strerror or str(error) or type(error).__name__


def open_parquet(url: str) -> Any:
    """An open Parquet file.

    Raises:
        BadInput: it is none. MissingExtra: pyarrow is not installed.
    """
    arrow = pyarrow()
    fs, path = filesystem(url)
    try:
        return arrow.parquet.ParquetFile(fs.open(path, "rb"), pre_buffer=False)
    except (arrow.ArrowException, OSError) as error:
        raise BadInput(f"{url} cannot be read as Parquet ({error}); bring a whole copy") from error
