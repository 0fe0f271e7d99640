"""The plan of a batch: input files are cut into parts in one pass, before any row is compressed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tamis.probes.errors import BadInput
from tamis.service.batch.job import PartLimits
from tamis.service.files import streams
from tamis.service.files.input_files import InputFile, open_rows
from tamis.service.files.row_values import open_parquet
from tamis.service.files.streams import read_lines
from tamis.text.types import to_bytes

Columns = tuple[tuple[str, str], ...]
"""Name and type of each input column of a Parquet output: string, int64, double, bool, strings (a
list) or json."""
PROXY_TOKENS_A_SECOND, BYTES_A_TOKEN = 1_690, 4.75
"""The default proxy reads so many on one core; rows of JSON Lines: lab/docs/scale.md."""
LOST_SECONDS = 50
MAX_PARTS, MAX_BYTES = 50_000, 8 << 20
"""A larger input has larger parts, up to `MAX_BYTES`: the plan of all parts is held in memory."""


def default_part_bytes(needs_proxy: bool, input_bytes: int) -> int:
    """The most bytes of input in a part, so that about `LOST_SECONDS` are lost with it.

    Args:
        needs_proxy: whether a model reads the rows; other methods are far faster.
    """
    if not needs_proxy:
        return MAX_BYTES
    least = int(LOST_SECONDS * PROXY_TOKENS_A_SECOND * BYTES_A_TOKEN)
    return min(MAX_BYTES, max(least, input_bytes // MAX_PARTS))


def input_bytes(sources: Sequence[InputFile]) -> int:
    """The size of the input files, packed ones as they are."""
    total = 0
    for source in sources:
        fs, paths = source.paths()
        total += sum(int(fs.info(path).get("size") or 0) for path in paths)
    return total


@dataclass(frozen=True, slots=True)
class BatchPart:
    """Consecutive rows of one input file.

    Attributes:
        index: its position in the output.
        source: the position of its file among the input files.
        first: number of its first row in the file, from 1; empty lines count.
        rows: number of rows; empty lines do not count.
        start, stop: half-open range of bytes of the unpacked file; only for lines.
    """

    index: int
    source: int
    first: int
    rows: int
    start: int = 0
    stop: int = 0

    @property
    def stem(self) -> str:
        """The name of its files, without a suffix."""
        return f"part-{self.index:06d}"


def survey_files(
    sources: Sequence[InputFile], limits: PartLimits
) -> tuple[list[BatchPart], list[dict[str, Any]]]:
    """Reads every input file once and cuts it into parts; a part never spans two files.

    Returns:
        The parts, and `BatchPlan.inputs`: the SHA-256 is of a file's content, for Parquet of the
        footer, which describes every column chunk; the stamp is of size and time in the file
        system: a file with the same stamp is not read again.

    Raises:
        BadInput: a file is damaged, or no file has a row.
    """
    parts, inputs = list[BatchPart](), list[dict[str, Any]]()
    for number, source in enumerate(sources):
        digest = hashlib.sha256()
        stamp = file_stamp(source)
        bounds = _BOUNDS[source.kind](source, limits, digest)
        own = [BatchPart(i, number, *each) for i, each in enumerate(bounds, len(parts))]
        parts += own
        facts = {"rows": sum(part.rows for part in own), "sha256": digest.hexdigest()}
        inputs.append({"name": source.url, **facts, "stamp": stamp})
    if not parts:
        raise BadInput(f"there is no row in {', '.join(s.url for s in sources)}; name other inputs")
    return parts, inputs


def file_stamp(source: InputFile) -> str:
    """Identifies the size and time of an input file; of a folder, those of all its text files."""
    fs, paths = source.paths()
    digest = hashlib.sha256()
    for one in paths:
        facts = fs.info(one)
        when = next((facts[name] for name in _TIMESTAMP_KEYS if facts.get(name)), None)
        digest.update(to_bytes(f"{one}\0{facts.get('size')}\0{when}\n"))
    return digest.hexdigest()[:16]


# the keys under which fsspec file systems report when a file changed, or its version
_TIMESTAMP_KEYS = ("mtime", "ETag", "etag", "LastModified", "updated", "created")
PartBounds = tuple[int, int, int, int]
"""`first`, `rows`, `start` and `stop` of a part."""


def _line_bounds(source: InputFile, limits: PartLimits, digest: Any) -> Iterator[PartBounds]:
    first, rows, start, at = 1, 0, 0, 0
    try:
        with open_rows(source.url) as stream:
            for number, (size, data) in enumerate(read_lines(stream, on_block=digest.update), 1):
                blank = data is not None and not data.strip()
                if rows and not blank and (rows >= limits.rows or at + size - start > limits.bytes):
                    yield first, rows, start, at
                    first, rows, start = number, 0, at
                rows, at = rows + (not blank), at + size
    except OSError as error:
        raise BadInput(f"{source.url} is damaged ({error}); bring a whole copy") from error
    if rows:
        yield first, rows, start, at


def _parquet_bounds(source: InputFile, limits: PartLimits, digest: Any) -> Iterator[PartBounds]:
    with open_parquet(source.url) as file:
        digest.update(parquet_footer(source.url))
        groups = [file.metadata.row_group(g) for g in range(file.metadata.num_row_groups)]
        total = file.metadata.num_rows
        bytes_a_row = sum(group.total_byte_size for group in groups) / max(total, 1)
    rows = max(1, min(limits.rows, int(limits.bytes / max(bytes_a_row, 1))))
    for first in range(0, total, rows):
        yield first + 1, min(rows, total - first), 0, 0


def _text_bounds(source: InputFile, limits: PartLimits, digest: Any) -> Iterator[PartBounds]:
    fs, paths = source.paths()
    first, rows, held_bytes = 1, 0, 0
    for number, (name, path) in enumerate(zip(source.names, paths, strict=True), 1):
        content = hashlib.sha256()
        size = 0
        with fs.open(path, "rb") as stream:
            while block := stream.read(1 << 20):
                content.update(block)
                size += len(block)
        digest.update(to_bytes(f"{name}\0{content.hexdigest()}\n"))
        if rows and (rows >= limits.rows or held_bytes + size > limits.bytes):
            yield first, rows, 0, 0
            first, rows, held_bytes = number, 0, 0
        rows, held_bytes = rows + 1, held_bytes + size
    if rows:
        yield first, rows, 0, 0


_BOUNDS = {"lines": _line_bounds, "parquet": _parquet_bounds, "texts": _text_bounds}


def parquet_footer(url: str) -> bytes:
    """The footer of a Parquet file: the position and statistics of every column chunk."""
    fs, path = streams.filesystem(url)
    size = int(fs.size(path))
    with fs.open(path, "rb") as stream:
        stream.seek(size - 8)
        length = int.from_bytes(stream.read(4), "little")
        stream.seek(max(0, size - 8 - length))
        return bytes(stream.read())


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """The content of manifest and plan.

    Attributes:
        settings: those that a rerun must share; see `resume_settings`.
        sources: the input files. inputs: name, rows, SHA-256 and stamp of each of them.
        suffix: of the parts' files, without a dot.
        columns: of a Parquet output whose input is text.
    """

    settings: Mapping[str, Any]
    sources: tuple[InputFile, ...]
    inputs: tuple[Mapping[str, Any], ...]
    parts: tuple[BatchPart, ...]
    suffix: str
    columns: Columns = ()
    rows: int = 0

    @property
    def passed_over(self) -> Mapping[str, str]:
        """The files of folders that are no rows, and why."""
        return {file: why for one in self.sources for file, why in one.passed_over.items()}

    def part_file(self, part: BatchPart) -> str:
        """The name of a part's file."""
        return f"{part.stem}.{self.suffix}"
