"""Which rows make which part: found in one pass over the input, before any row is compressed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tamis.probes.errors import BadInput
from tamis.service.batch.job import Cut
from tamis.service.files import files
from tamis.service.files.files import open_parquet
from tamis.service.files.lines import lines
from tamis.service.files.sources import Source


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive rows of one source.

    Attributes:
        index: its place in the output.
        source: its place among the sources.
        first: number of its first row in the source, from 1; empty lines count.
        rows: how many rows it holds; empty lines do not count.
        start, stop: bytes of the unpacked file, half open; only for lines.
    """

    index: int
    source: int
    first: int
    rows: int
    start: int = 0
    stop: int = 0

    @property
    def stem(self) -> str:
        """What its files are called."""
        return f"part-{self.index:06d}"


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found in a source.

    Attributes:
        sha256: of its content; of a Parquet file, of the footer, which knows every column chunk.
        stamp: size and time as the file system tells them: where they agree, nothing is read again.
    """

    source: Source
    rows: int
    sha256: str
    stamp: str
    parts: tuple[Part, ...]


def survey(sources: Sequence[Source], cut: Cut) -> list[Survey]:
    """Reads every source once and cuts it into parts; a part never crosses a source.

    Raises:
        BadInput: a file is damaged, or there is no row in any of them.
    """
    found: list[Survey] = []
    total = 0
    for number, source in enumerate(sources):
        digest = hashlib.sha256()
        stamped = stamp(source)
        parts = tuple(
            Part(total + i, number, *bounds)
            for i, bounds in enumerate(_BOUNDS[source.kind](source, cut, digest))
        )
        total += len(parts)
        rows = sum(part.rows for part in parts)
        found.append(Survey(source, rows, digest.hexdigest(), stamped, parts))
    if not total:
        raise BadInput(f"there is no row in {', '.join(s.url for s in sources)}; name other inputs")
    return found


def stamp(source: Source) -> str:
    """Size and time of a source, cheaply; of a folder, of all its text files."""
    fs, path = files.filesystem(source.url)
    paths = [f"{path.rstrip('/')}/{name}" for name in source.names] or [path]
    told = hashlib.sha256()
    for one in paths:
        facts = fs.info(one)
        when = next((facts[name] for name in _WHEN if facts.get(name)), None)
        told.update(_bytes(f"{one}\0{facts.get('size')}\0{when}\n"))
    return told.hexdigest()[:16]


def _bytes(text: str) -> bytes:
    """UTF-8, and where a file's name is none, still something that tells it from others."""
    return text.encode("utf-8", "surrogatepass")


_WHEN = ("mtime", "ETag", "etag", "LastModified", "updated", "created")  # as file systems say it
Bounds = tuple[int, int, int, int]


def _lines(source: Source, cut: Cut, digest: Any) -> Iterator[Bounds]:
    first, rows, start, at = 1, 0, 0, 0
    try:
        with files.opened(source.url) as stream:
            for number, (size, data) in enumerate(lines(stream, heard=digest.update), 1):
                blank = data is not None and not data.strip()
                if rows and not blank and (rows >= cut.rows or at + size - start > cut.bytes):
                    yield first, rows, start, at
                    first, rows, start = number, 0, at
                rows, at = rows + (not blank), at + size
    except OSError as error:
        raise BadInput(f"{source.url} is damaged ({error}); bring a whole copy") from error
    if rows:
        yield first, rows, start, at


def _parquet(source: Source, cut: Cut, digest: Any) -> Iterator[Bounds]:
    with open_parquet(source.url) as file:
        digest.update(footer(source.url))
        groups = [file.metadata.row_group(g) for g in range(file.metadata.num_row_groups)]
        total = file.metadata.num_rows
        bytes_a_row = sum(group.total_byte_size for group in groups) / max(total, 1)
    rows = max(1, min(cut.rows, int(cut.bytes / max(bytes_a_row, 1))))
    for first in range(0, total, rows):
        yield first + 1, min(rows, total - first), 0, 0


def _texts(source: Source, cut: Cut, digest: Any) -> Iterator[Bounds]:
    fs, home = files.filesystem(source.url)
    first, rows, held = 1, 0, 0
    for number, name in enumerate(source.names, 1):
        content = hashlib.sha256()
        size = 0
        with fs.open(f"{home.rstrip('/')}/{name}", "rb") as stream:
            while block := stream.read(1 << 20):
                content.update(block)
                size += len(block)
        digest.update(_bytes(f"{name}\0{content.hexdigest()}\n"))
        if rows and (rows >= cut.rows or held + size > cut.bytes):
            yield first, rows, 0, 0
            first, rows, held = number, 0, 0
        rows, held = rows + 1, held + size
    if rows:
        yield first, rows, 0, 0


_BOUNDS = {"lines": _lines, "parquet": _parquet, "texts": _texts}


def footer(url: str) -> bytes:
    """The last bytes of a Parquet file: where every column chunk lies, and its statistics."""
    fs, path = files.filesystem(url)
    size = int(fs.size(path))
    with fs.open(path, "rb") as stream:
        stream.seek(size - 8)
        length = int.from_bytes(stream.read(4), "little")
        stream.seek(max(0, size - 8 - length))
        return bytes(stream.read())
