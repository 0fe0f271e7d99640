"""Input rows: read from the files of a part, and what each asks, or why it cannot be read.

Files are read forwards, so that no packed file is unpacked twice.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import IO, Any

from tamis.probes.errors import BadInput, MissingExtra
from tamis.service.batch.job import (
    OLD_QUESTION_FIELD,
    OUTPUT_FIELDS,
    QUESTION_FIELD,
    RAW_FIELD,
    BatchJob,
    RowFields,
)
from tamis.service.batch.plan import BatchPart
from tamis.service.files import row_values, streams
from tamis.service.files.corpus import read_whole
from tamis.service.files.document_text import PAGE_STARTS, InputFormat, read_document
from tamis.service.files.input_files import InputFile, open_rows
from tamis.service.files.row_values import iterate_rows, open_parquet, to_json
from tamis.service.files.streams import read_lines
from tamis.text.inputs import check_question_length, question_text, to_passage
from tamis.text.language import resolve_language
from tamis.text.types import Passage

_SHOWN_CHARS = 60
_DOCUMENT_FIELDS = ("id", "title", "metadata", "keep", "min_tokens")


@dataclass(frozen=True, slots=True)
class InputRow:
    """One row of the input.

    Attributes:
        number: in its input file, from 1.
        raw: the text of the row; None where there is none, as in Parquet.
        value: its fields; None if the row could not be read, or the name alone of a text file that
            could not.
        fault: why it could not be read.
    """

    number: int
    raw: str | None = None
    value: Mapping[str, Any] | None = None
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class RowRequest:
    """The question of a row, and its documents as passages.

    Attributes:
        question: with the instruction and the earlier turns.
        asked: the question alone, which tells the language.
        warnings: of what the row has and nobody reads.
    """

    question: str
    passages: tuple[Passage, ...]
    asked: str
    warnings: tuple[str, ...] = ()

    def language(self, given: str) -> str:
        """The language that was given, or under `auto` that of the question and the documents.

        Raises:
            BadInput: it is neither a code nor `auto`.
        """
        texts = [passage.text for passage in self.passages]
        return resolve_language(given, self.asked, texts)

    @property
    def chars(self) -> int:
        """Number of characters to read, by which rows of similar length are grouped."""
        return len(self.question) + sum(len(passage.text) for passage in self.passages)


_NAME_ENCODING = "name the encoding with --encoding"
_WIDE = ("utf-16", "utf16", "utf_16", "utf-32", "utf32", "utf_32")


def parse_row(number: int, data: bytes | None, job: BatchJob, size: int = 0) -> InputRow:
    """A line of JSON as a row; an error becomes the `fault` of the row and raises nothing."""
    if data is None:
        return InputRow(
            number, fault=f"the line has {size:,} bytes, too many to be read as one row"
        )
    try:
        text = data.decode(job.encoding).removeprefix("\ufeff").strip()
    except UnicodeDecodeError as error:
        raw = data.decode(job.encoding, "backslashreplace").strip()
        fault = f"byte 0x{data[error.start]:02x} at {error.start} is not {job.encoding}"
        is_wide = data[:2] in (b"\xff\xfe", b"\xfe\xff") or job.encoding.lower()[:6] in _WIDE
        more = "lines end in one byte: convert the file to UTF-8" if is_wide else _NAME_ENCODING
        return InputRow(number, raw, fault=f"{fault}; {more}")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        array = "; a JSON array has to be one object a line, or a file in .json"
        more = array if text.startswith("[") else ""
        return InputRow(number, text, fault=f"the line is not JSON ({error}){more}")
    if not isinstance(value, dict):
        return InputRow(number, text, fault=f"the row is {_shorten(value)}; give a JSON object")
    if taken := sorted(
        {*map(job.field_name, OUTPUT_FIELDS), job.field_name(RAW_FIELD)} & set(value)
    ):
        return InputRow(number, text, fault=name_clash_fault(taken))
    return InputRow(number, text, value)


def name_clash_fault(names: Sequence[str]) -> str:
    """The message for input fields that the output would overwrite."""
    return f"the input has fields {list(names)} already; name the added ones with --prefix tamis_"


def request_of(row: InputRow, job: BatchJob) -> RowRequest:
    """The request of a row; its text is not changed.

    Raises:
        BadInput: the row could not be read, or a field is missing or has the wrong type.
    """
    if row.fault or row.value is None:
        raise BadInput(row.fault or "the row cannot be read")
    asked = _question(row.value, job)
    history = _history(row.value, job.fields)
    question = check_question_length(question_text(asked, job.instruction, history))
    given, unread = row.value.get(job.fields.documents), row.value.get(job.fields.context)
    warnings = []
    if given is not None and unread is not None and given != unread:
        why = f"since the row has {job.fields.documents!r}"
        warnings.append(f"{job.fields.context!r} is not read, {why}")
    own = row.value.get(job.fields.question)
    if job.question is not None and own not in (None, "", job.question):
        warnings.append(f"{job.fields.question!r} is not read, since --question asks all rows")
    return RowRequest(question, _passages(row.value, job.fields), asked, tuple(warnings))


def _question(value: Mapping[str, Any], job: BatchJob) -> str:
    if job.question is not None:
        return job.question
    name = job.fields.question
    if name == QUESTION_FIELD and (old := value.get(OLD_QUESTION_FIELD)) is not None:
        if value.get(name) not in (None, old):
            raise BadInput(
                f"the row has {name!r} and {OLD_QUESTION_FIELD!r}, and they differ; say with "
                "--question-field which is the question"
            )
        name = OLD_QUESTION_FIELD
    question = value.get(name)
    if isinstance(question, str) and question.strip():
        return question
    if name in value:
        raise BadInput(f"{name!r} is {_shorten(question)}; give a question")
    raise BadInput(
        f"there is no field {name!r}, but {_field_names(value)}; name it with "
        "--question-field, or ask one question of all rows with --question"
    )


def _history(value: Mapping[str, Any], fields: RowFields) -> Sequence[str]:
    """A row's earlier turns; Parquet has None where a row has no list."""
    if fields.history and fields.history not in value:
        raise BadInput(
            f"there is no field {fields.history!r} of earlier turns, but {_field_names(value)}; "
            "name it with --history-field, and give null where a question depends on none"
        )
    turns = value.get(fields.history) if fields.history else None
    if turns is None:
        return ()
    if not isinstance(turns, Sequence) or isinstance(turns, str | bytes):
        raise BadInput(f"{fields.history!r} is {_shorten(turns)}; give a list of earlier turns")
    return turns


def _passages(value: Mapping[str, Any], fields: RowFields) -> tuple[Passage, ...]:
    for name in (fields.documents, fields.context):
        if (given := value.get(name)) is not None:
            documents = [given] if isinstance(given, str | Mapping) else given
            if not isinstance(documents, Sequence) or isinstance(documents, bytes):
                raise BadInput(
                    f"{name!r} is {_shorten(given)}; give a text, or a list of documents"
                )
            return tuple(_passage(one, i, fields.text) for i, one in enumerate(documents))
    if empty := [repr(name) for name in (fields.documents, fields.context) if name in value]:
        raise BadInput(f"{' and '.join(empty)} is null; give a text, or a list of documents")
    raise BadInput(
        f"there is neither {fields.documents!r} nor {fields.context!r}, but {_field_names(value)}; "
        "name the field with --documents-field or --context-field"
    )


def _passage(given: Any, index: int, text: str) -> Passage:
    """A document as a passage; fields without a meaning here stay in the row and are ignored."""
    if not isinstance(given, Mapping):
        if isinstance(given, str):
            return Passage(given)
        raise BadInput(f"document {index} is {_shorten(given)}; give a text, or an object with one")
    if text not in given:
        raise BadInput(
            f"document {index} has no text in {text!r}, but {_field_names(given)}; "
            "name the field with --text-field"
        )
    if not isinstance(given[text], str):
        raise BadInput(f"document {index}: {text!r} is {_shorten(given[text])}; give a text")
    if given.get("format") == "html":
        raise BadInput(
            f"document {index} has the format 'html', and rows are read as they are, so that spans "
            "point into them; give pages as .html files, or what tamis.read_html made of them"
        )
    known = {name: given[name] for name in _DOCUMENT_FIELDS if given.get(name) is not None}
    for name in ("id", "title"):
        if isinstance(known.get(name), int | float):
            known[name] = str(known[name])  # corpora number their documents
    if not isinstance(known.get("metadata"), Mapping):
        known.pop("metadata", None)
    return to_passage({**known, "text": given[text]}, index)


def _shorten(value: Any) -> str:
    """A value for a message, cut after some characters."""
    is_bytes = isinstance(value, bytes)
    shown = repr(value) if is_bytes else json.dumps(value, ensure_ascii=False, default=str)
    if len(shown) > _SHOWN_CHARS:
        shown = f"{streams.json_kind(value)} {shown[:_SHOWN_CHARS]}…"
    return f"{shown} (bytes: cast the column to a string)" if is_bytes else shown


def _field_names(value: Mapping[str, Any]) -> str:
    names = [repr(name) for name in list(value)[:8]]
    return ", ".join(names) + (f" and {len(value) - 8} more" if len(value) > 8 else "") or "none"


_SKIP_BYTES = 1 << 20
_SKIP_ROWS = 1024


class PartRows:
    """Reads parts; the last input file stays open, since parts mostly come in order."""

    def __init__(self, sources: Sequence[InputFile], job: BatchJob) -> None:
        self.sources, self.job = sources, job
        self._current: tuple[int, _LineFile | _ParquetFile] | None = None
        self._last_table: tuple[BatchPart, Any] | None = None

    def read_rows(self, part: BatchPart) -> list[InputRow]:
        """The rows of a part, in order; a malformed row has a `fault` and raises nothing.

        Raises:
            BadInput: the file has changed since the plan was made.
        """
        found = list(self._rows(part))
        if len(found) != part.rows:
            raise BadInput(
                f"{self.sources[part.source].url} changed while it was read: "
                f"{len(found)} rows where {part.rows} were; start again with another output folder"
            )
        return found

    def first_rows(self, source: int, max_rows: int) -> list[InputRow]:
        """Up to `max_rows` first rows of an input file, without a plan."""
        max_rows = min(max_rows, len(self.sources[source].names) or max_rows)
        return list(islice(self._rows(BatchPart(0, source, 1, max_rows, 0, sys.maxsize)), max_rows))

    def arrow_table(self, part: BatchPart) -> Any:
        """The rows of a part of a Parquet file, unchanged, as an Arrow table."""
        if self._last_table is None or self._last_table[0] != part:
            self._last_table = (part, self._open_at(part).table(part))
        return self._last_table[1]

    def _rows(self, part: BatchPart) -> Iterator[InputRow]:
        source = self.sources[part.source]
        if source.kind == "texts":
            return _text_rows(source, part, self.job)
        if source.kind == "parquet":
            return table_rows(self.arrow_table(part), part.first, self.job)
        rows: Iterator[InputRow] = self._open_at(part).rows(part, self.job)
        return rows

    def _open_at(self, part: BatchPart) -> Any:
        """The part's input file, open at or before the part's first row."""
        if self._current and self._current[0] == part.source and self._current[1].can_reach(part):
            return self._current[1]
        self.close()
        source = self.sources[part.source]
        kind = _ParquetFile if source.kind == "parquet" else _LineFile
        self._current = (part.source, kind(source.url))
        return self._current[1]

    def close(self) -> None:
        """Closes the file that is open."""
        if self._current:
            self._current[1].close()
            self._current = None


class _LineFile:
    """A file of lines; `at` is the position in the unpacked bytes."""

    def __init__(self, url: str) -> None:
        self.packed = streams.codec_of(url) is not None
        self.stream: IO[bytes] = open_rows(url)
        self.at = 0

    def can_reach(self, part: BatchPart) -> bool:
        return not self.packed or part.start >= self.at

    def rows(self, part: BatchPart, job: BatchJob) -> Iterator[InputRow]:
        self._seek(part.start)
        for number, (size, data) in enumerate(read_lines(self.stream), part.first):
            self.at += size
            if data is None or data.strip():
                yield parse_row(number, data, job, size)
            if self.at >= part.stop:
                return

    def _seek(self, start: int) -> None:
        if not self.packed:
            self.stream.seek(start)
            self.at = start
        while self.at < start:
            read = len(self.stream.read(min(_SKIP_BYTES, start - self.at)))
            if not read:
                return  # shorter than planned: `read_rows` notices by the number of rows
            self.at += read

    def close(self) -> None:
        self.stream.close()


class _ParquetFile:
    """A Parquet file, read batch by batch; `at` is the number of the next row, from 0."""

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

    def can_reach(self, part: BatchPart) -> bool:
        return True

    def table(self, part: BatchPart) -> Any:
        """Rows `[first - 1, first - 1 + rows)` as one table."""
        self._seek(part.first - 1)
        batches: list[Any] = []
        missing = part.rows
        while missing and (batch := self._take(missing)) is not None:
            batches.append(batch)
            missing -= batch.num_rows
        return row_values.import_pyarrow().Table.from_batches(batches, self.file.schema_arrow)

    def _seek(self, row: int) -> None:
        if not self.bounds:
            self.at = row  # a file without a row group has no rows to go to
            return
        group = max(g for g, first in enumerate(self.bounds) if first <= row)
        if self.at is None or row < self.at or self.bounds[group] > self.at:
            self.at, self.rest = self.bounds[group], None
            self.batches = self._batches(group)
        while self.at < row and self._take(row - self.at) is not None:
            pass

    def _batches(self, first: int) -> Iterator[Any]:
        """The batches of this row group and of those after it."""
        for group in range(first, len(self.bounds)):
            try:
                yield from self.file.iter_batches(_SKIP_ROWS, [group], use_threads=False)
            except (row_values.import_pyarrow().ArrowException, OSError) as error:
                raise BadInput(
                    f"{self.url} is damaged in row group {group} of {len(self.bounds)}, from 0 "
                    f"({error}); bring a whole copy"
                ) from error

    def _take(self, max_rows: int) -> Any:
        """Up to `max_rows` of the next rows; None after the last."""
        if self.rest is None or not self.rest.num_rows:
            self.rest = next(self.batches, None)
        if self.rest is None:
            return None
        head, self.rest = self.rest.slice(0, max_rows), self.rest.slice(max_rows)
        self.at = (self.at or 0) + head.num_rows
        return head

    def close(self) -> None:
        self.file.close()


def table_rows(table: Any, first: int, job: BatchJob) -> Iterator[InputRow]:
    """The rows of an Arrow table; a cell is converted to Python when it is used."""
    if taken := sorted(set(map(job.field_name, OUTPUT_FIELDS)) & set(table.column_names)):
        raise BadInput(name_clash_fault(taken))
    for number, value in enumerate(iterate_rows(table), first):
        yield InputRow(number, None, value)


def _text_rows(source: InputFile, part: BatchPart, job: BatchJob) -> Iterator[InputRow]:
    """Text files as rows: the name is the id, the text the context; of a PDF, where pages begin."""
    _check_field_names(job)
    for number in range(part.first, part.first + part.rows):
        name = source.names[number - 1]
        try:
            data = read_whole(source.location(number))
            document = read_document(data, name, job.encoding, InputFormat(job.input_format))
        except (BadInput, MissingExtra) as error:
            yield InputRow(number, value={job.fields.id: name}, fault=str(error))
            continue
        pages = {PAGE_STARTS: list(document.page_starts)} if document.page_starts else {}
        value = {job.fields.id: name, job.fields.context: document.text, **pages}
        yield InputRow(number, to_json(value), value)


def _check_field_names(job: BatchJob) -> None:
    """Refuses a field name for a text file's name or text that is used for something else."""
    fields = job.fields
    if fields.id in (others := (fields.context, fields.documents, fields.history)):
        option = ("--context-field", "--documents-field", "--history-field")[
            others.index(fields.id)
        ]
        raise BadInput(
            f"--id-field and {option} are both {fields.id!r}, and the names of text files would "
            "be lost or read as text; give --id-field another name"
        )
    added = {*map(job.field_name, OUTPUT_FIELDS), job.field_name(RAW_FIELD)}
    if taken := sorted({fields.id, fields.context} & added):
        raise BadInput(
            f"of text files, name and text would go to {taken}, which are added to every row; give "
            "--id-field or --context-field another name, or the added ones --prefix tamis_"
        )
