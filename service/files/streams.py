"""Files at local paths and fsspec URLs: read unpacked, line by line, and written atomically.

Files may be packed with gzip, zstd or xz. Lines have bounded length, since a file without line
feeds must not fill the memory.
"""

from __future__ import annotations

import gzip
import io
import json
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

from tamis.probes.atomic_file import atomic_path
from tamis.probes.errors import BadInput, MissingExtra
from tamis.probes.extras import import_extra
from tamis.service.files.document_text import decode_text


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
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(Path(path), sync=durable) as temporary:
                temporary.write_bytes(data)
        else:
            fs.makedirs(fs._parent(path), exist_ok=True)
            fs.pipe_file(path, data)
    except OSError as error:
        raise BadInput(
            f"{path} cannot be written ({error_reason(error)}); parts that are done are kept, "
            "so make room and run the same command again"
        ) from error


def error_reason(error: OSError) -> str:
    """The system's description of an error."""
    return error.strerror or str(error) or type(error).__name__


CODECS = (".gz", ".zst", ".xz")
_BUFFER_BYTES = 1 << 20
_ZSTD_READ_BYTES = 1 << 12
"""Bytes read at once from a .zst: 4 KiB unpack to 128 MiB at most, so that a decompression bomb
does not fill the memory."""


def irregular(path: str | Path) -> str | None:
    """Why what a local path names is not read as a file; None where it is one."""
    if os.path.isdir(path):
        return "is a link to a folder; name it, too, and its files are read"
    return None if os.path.isfile(path) else "is no regular file"


def is_repeated(link: str | Path, home: str | Path) -> bool:
    """Whether a link leads to a folder that is read, since it is in the same one, not hidden."""
    path = os.path.relpath(os.path.realpath(link), os.path.realpath(home))
    return os.path.isdir(link) and not any(part.startswith(".") for part in Path(path).parts)


def open_unpacked(url: str) -> IO[bytes]:
    """A file's bytes, unpacked where its name ends in one of `CODECS`: then it cannot seek.

    Raises:
        BadInput: it cannot be opened; for a packed file, while it is read: it is damaged or
            truncated. MissingExtra: .zst without the package for it.
    """
    fs, path = filesystem(url)
    try:
        raw = fs.open(path, "rb")
    except OSError as error:
        raise BadInput(f"{url} cannot be read ({error_reason(error)}); check the name") from error
    return unpacked(raw, url)


def unpacked(raw: Any, url: str) -> IO[bytes]:
    """An open file's bytes, as `open_unpacked` has them."""
    codec = codec_of(url)
    if codec is None:
        return cast(IO[bytes], raw)
    if codec == ".zst":
        blocks = _zstd_blocks(raw, import_zstandard())
    else:
        unpacked = gzip.GzipFile(fileobj=raw) if codec == ".gz" else lzma.LZMAFile(raw)
        blocks = iter(partial(unpacked.read1, _BUFFER_BYTES), b"")
    return cast(
        IO[bytes], io.BufferedReader(cast(Any, _UnpackedStream(url, raw, blocks)), _BUFFER_BYTES)
    )


def unpacked_suffix(name: str) -> str:
    """The suffix of a file's name in lower case, without that of its packing."""
    name = name.lower()
    return Path(name.removesuffix(codec_of(name) or "")).suffix


def codec_of(name: str) -> str | None:
    """The suffix in a file's name that says how it is packed; None for a plain file."""
    return next((codec for codec in CODECS if name.lower().endswith(codec)), None)


class _UnpackedStream(io.RawIOBase):
    """Blocks of bytes as a stream; damage is reported with the name of the file."""

    def __init__(self, url: str, raw: Any, blocks: Iterator[bytes]) -> None:
        self.url, self.raw, self.blocks = url, raw, blocks
        self.rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        try:
            while not self.rest and (block := next(self.blocks, None)) is not None:
                self.rest = memoryview(block)
        except (gzip.BadGzipFile, EOFError, zlib.error, lzma.LZMAError) as error:
            raise BadInput(f"{self.url} is damaged ({error}); bring a whole copy") from error
        except OSError as error:
            raise BadInput(
                f"{self.url} cannot be read any further ({error_reason(error)}); try again"
            ) from error
        size = min(len(target), len(self.rest))
        target[:size], self.rest = self.rest[:size], self.rest[size:]
        return size

    def close(self) -> None:
        self.raw.close()
        super().close()


def _zstd_blocks(raw: Any, package: Any) -> Iterator[bytes]:
    """Frame by frame: a reader across frames does not notice that the last frame is incomplete."""
    unpacker, frame = package.ZstdDecompressor(), None
    try:
        while piece := raw.read(_ZSTD_READ_BYTES):
            while piece:
                frame = frame or unpacker.decompressobj()
                yield frame.decompress(piece)
                piece = frame.unused_data if frame.eof else b""
                frame = None if frame.eof else frame
    except package.ZstdError as error:
        raise EOFError(str(error)) from error
    if frame is not None:
        raise EOFError("the file ends before its last frame does")


def pack(data: bytes, name: str) -> bytes:
    """The bytes of a file of that name that holds `data`; equal data give equal bytes."""
    if name.endswith(".gz"):
        return gzip.compress(data, 6, mtime=0)
    if name.endswith(".zst"):
        return cast(bytes, import_zstandard().ZstdCompressor(level=3).compress(data))
    return data


def import_zstandard() -> Any:
    """The package `zstandard`.

    Raises:
        MissingExtra: it is not installed, with the command that installs it.
    """
    return import_extra("zstandard", ".zst", "batch")


def unpack(data: bytes, name: str) -> bytes:
    """The data in the bytes of a file of that name; the inverse of `pack`."""
    if name.endswith(".gz"):
        return gzip.decompress(data)
    if name.endswith(".zst"):
        with import_zstandard().ZstdDecompressor().stream_reader(io.BytesIO(data)) as stream:
            whole: bytes = stream.read()
        return whole
    return data


MAX_LINE_BYTES = 1 << 28
"""A longer line (256 MiB) is skipped and becomes an error row."""

_BLOCK = 1 << 20
BlockCallback = Callable[[bytes], object]


def read_lines(
    stream: IO[bytes], max_bytes: int = MAX_LINE_BYTES, on_block: BlockCallback | None = None
) -> Iterator[tuple[int, bytes | None]]:
    """Each line's length in bytes and its bytes, line feed included; None for one over `max_bytes`.

    Lines end at line feeds alone: U+2028 and the like may occur in a JSON string.

    Args:
        on_block: called with every block of bytes, those of over-long lines included.
    """
    while data := stream.readline(max_bytes):
        if on_block:
            on_block(data)
        if len(data) < max_bytes or data.endswith(b"\n"):
            yield len(data), data
            continue
        size = len(data)
        while not data.endswith(b"\n") and (data := stream.readline(_BLOCK)):
            size += len(data)
            if on_block:
                on_block(data)
        yield size, None


def raise_fault(fault: BadInput) -> None:
    """What is done about a row that cannot be read, where nothing else is."""
    raise fault


def read_json_lines(
    path: str | Path, skip: Callable[[BadInput], object] = raise_fault
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The number, from 1, and the object of each line of a file, packed or not.

    Blank lines are counted and passed over; a byte order mark is no part of a line.

    Args:
        skip: takes the fault of a line, which is passed over then.

    Raises:
        BadInput: the file cannot be read, or a line is not a JSON object in UTF-8, with its number.
    """
    with open_unpacked(str(path)) as stream:
        for number, (_, line) in enumerate(read_lines(stream), 1):
            try:
                if line is None or line.strip():
                    yield number, _json_object(line, f"{path}, line {number}")
            except BadInput as error:
                skip(error)


def json_kind(value: Any) -> str:
    """What those who write JSON call a value; of another value, its type."""
    return next((n for kind, n in _KINDS.items() if isinstance(value, kind)), type(value).__name__)


_KINDS: dict[Any, str] = {dict: "an object", list: "an array", str: "a string", bool: "a boolean"}
_KINDS |= {int: "a number", float: "a number", type(None): "null"}


def _json_object(line: bytes | None, place: str) -> dict[str, Any]:
    if line is None:
        raise BadInput(f"{place}: the line is over 256 MiB; split it")
    try:
        row = json.loads(decode_text(line, place, "utf-8").removeprefix("\ufeff"))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{place}: not JSON ({error})") from error
    if not isinstance(row, dict):
        raise BadInput(f"{place}: a row is a JSON object, got {json_kind(row)}")
    return row
