"""Files packed with gzip, zstd or xz: read as a stream of unpacked bytes; the first two written."""

from __future__ import annotations

import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from functools import partial
from typing import IO, Any, cast

from tamis.probes.errors import BadInput
from tamis.probes.extras import import_extra
from tamis.service.files.remote import error_reason, filesystem

CODECS = (".gz", ".zst", ".xz")
_BUFFER_BYTES = 1 << 20
_ZSTD_READ_BYTES = 1 << 12
"""Bytes read at once from a .zst: 4 KiB unpack to 128 MiB at most, so that a decompression bomb
does not fill the memory."""


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
    codec = codec_of(path)
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
