"""The rows of a part, read where they lie: forwards, so that no packed file is unpacked twice."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import IO, Any

from tamis.probes.errors import BadInput
from tamis.service.batch.job import OUTPUTS, RAW, Job
from tamis.service.batch.plan import Part
from tamis.service.batch.rows import Row, parsed, taken_fault
from tamis.service.files import files
from tamis.service.files.cells import as_json, cells
from tamis.service.files.files import open_parquet
from tamis.service.files.lines import lines
from tamis.service.files.sources import Source

_SKIP_BYTES = 1 << 20
_SKIP_ROWS = 1024


class Reader:
    """Reads parts; keeps the last source open, since parts mostly come in order."""

    def __init__(self, sources: Sequence[Source], job: Job) -> None:
        self.sources, self.job = sources, job
        self._open: tuple[int, _Lines | _Table] | None = None
        self._last: tuple[Part, Any] | None = None

    def rows(self, part: Part) -> list[Row]:
        """The rows of a part, in order; a malformed one is told, not raised.

        Raises:
            BadInput: the source is not what it was when the plan was made.
        """
        found = list(self._rows(part))
        if len(found) != part.rows:
            raise BadInput(
                f"{self.sources[part.source].url} changed while it was read: "
                f"{len(found)} rows where {part.rows} were; start again with another output folder"
            )
        return found

    def first(self, source: int, most: int) -> list[Row]:
        """The first rows of a source, without a plan."""
        most = min(most, len(self.sources[source].names) or most)
        return list(islice(self._rows(Part(0, source, 1, most, 0, sys.maxsize)), most))

    def table(self, part: Part) -> Any:
        """The rows of a part of a Parquet source as they are, an Arrow table."""
        if self._last is None or self._last[0] != part:
            self._last = (part, self._opened(part).table(part))
        return self._last[1]

    def _rows(self, part: Part) -> Iterator[Row]:
        source = self.sources[part.source]
        if source.kind == "texts":
            return _texts(source, part, self.job)
        if source.kind == "parquet":
            return rows_of(self.table(part), part.first, self.job)
        rows: Iterator[Row] = self._opened(part).rows(part, self.job)
        return rows

    def _opened(self, part: Part) -> Any:
        """The part's source, open at or before the part's first row."""
        if self._open and self._open[0] == part.source and self._open[1].can_reach(part):
            return self._open[1]
        self.close()
        source = self.sources[part.source]
        kind = _Table if source.kind == "parquet" else _Lines
        self._open = (part.source, kind(source.url))
        return self._open[1]

    def close(self) -> None:
        """Closes the source that is open."""
        if self._open:
            self._open[1].close()
            self._open = None


class _Lines:
    """A file of lines; `at` is where it stands in the unpacked bytes."""

    def __init__(self, url: str) -> None:
        self.packed = files.codec_of(url) is not None
        self.stream: IO[bytes] = files.opened(url)
        self.at = 0

    def can_reach(self, part: Part) -> bool:
        return not self.packed or part.start >= self.at

    def rows(self, part: Part, job: Job) -> Iterator[Row]:
        self._go(part.start)
        for number, (size, data) in enumerate(lines(self.stream), part.first):
            self.at += size
            if data is None or data.strip():
                yield parsed(number, data, job, size)
            if self.at >= part.stop:
                return

    def _go(self, start: int) -> None:
        if not self.packed:
            self.stream.seek(start)
            self.at = start
        while self.at < start:
            read = len(self.stream.read(min(_SKIP_BYTES, start - self.at)))
            if not read:
                return  # shorter than planned: the count of rows will tell
            self.at += read

    def close(self) -> None:
        self.stream.close()


class _Table:
    """A Parquet file, read batch by batch; `at` is the row it stands before, from 0."""

    def __init__(self, url: str) -> None:
        self.url, self.file = url, open_parquet(url)
        counts = [
            self.file.metadata.row_group(g).num_rows
            for g in range(self.file.metadata.num_row_groups)
        ]
        self.bounds = [sum(counts[:g]) for g in range(len(counts))]
        self.at: int | None = None
        self.batches: Iterator[Any] = iter(())
        self.rest: Any = None

    def can_reach(self, part: Part) -> bool:
        return True

    def table(self, part: Part) -> Any:
        """Rows `[first - 1, first - 1 + rows)` as one table."""
        self._go(part.first - 1)
        taken: list[Any] = []
        missing = part.rows
        while missing and (batch := self._next(missing)) is not None:
            taken.append(batch)
            missing -= batch.num_rows
        return files.pyarrow().Table.from_batches(taken, self.file.schema_arrow)

    def _go(self, row: int) -> None:
        if not self.bounds:
            self.at = row  # a file without a row group has no rows to go to
            return
        group = max(g for g, first in enumerate(self.bounds) if first <= row)
        if self.at is None or row < self.at or self.bounds[group] > self.at:
            self.at, self.rest = self.bounds[group], None
            self.batches = self._batches(group)
        while self.at < row and self._next(row - self.at) is not None:
            pass

    def _batches(self, first: int) -> Iterator[Any]:
        """Of this row group and those behind it."""
        for group in range(first, len(self.bounds)):
            try:
                yield from self.file.iter_batches(_SKIP_ROWS, [group], use_threads=False)
            except (files.pyarrow().ArrowException, OSError) as error:
                raise BadInput(
                    f"{self.url} is damaged in row group {group} of {len(self.bounds)}, from 0 "
                    f"({error}); bring a whole copy"
                ) from error

    def _next(self, most: int) -> Any:
        """Up to so many of the next rows; None behind the last."""
        if self.rest is None or not self.rest.num_rows:
            self.rest = next(self.batches, None)
        if self.rest is None:
            return None
        head, self.rest = self.rest.slice(0, most), self.rest.slice(most)
        self.at = (self.at or 0) + head.num_rows
        return head

    def close(self) -> None:
        self.file.close()


def rows_of(table: Any, first: int, job: Job) -> Iterator[Row]:
    """An Arrow table's rows; a cell becomes Python where it is used."""
    if taken := sorted(set(map(job.name, OUTPUTS)) & set(table.column_names)):
        raise BadInput(taken_fault(taken))
    for number, value in enumerate(cells(table), first):
        yield Row(number, None, value)


def _texts(source: Source, part: Part, job: Job) -> Iterator[Row]:
    """A file is a row: its name is the id, its text the context."""
    _check_names(job)
    fs, home = files.filesystem(source.url)
    for number in range(part.first, part.first + part.rows):
        name = source.names[number - 1]
        data = fs.cat_file(f"{home.rstrip('/')}/{name}")
        try:
            text = data.decode(job.encoding)
        except UnicodeDecodeError as error:
            fault = f"byte 0x{data[error.start]:02x} at {error.start} is not {job.encoding}"
            yield Row(number, as_json({job.fields.id: name}), fault=f"{fault}; give --encoding")
            continue
        value = {job.fields.id: name, job.fields.context: text}
        yield Row(number, as_json(value), value)


def _check_names(job: Job) -> None:
    """Refuses a name for a text file's name or text that something else has already."""
    fields = job.fields
    if fields.id in (others := (fields.context, fields.documents, fields.history)):
        option = ("--context-field", "--docs-field", "--history-field")[others.index(fields.id)]
        raise BadInput(
            f"--id-field and {option} are both {fields.id!r}, and the names of text files would "
            "be lost or read as text; give --id-field another name"
        )
    added = {*map(job.name, OUTPUTS), job.name(RAW)}
    if taken := sorted({fields.id, fields.context} & added):
        raise BadInput(
            f"of text files, name and text would go to {taken}, which are added to every row; give "
            "--id-field or --context-field another name, or the added ones --prefix tamis_"
        )
