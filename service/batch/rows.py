"""One input row: its question and its documents, or why it cannot be read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tamis.compressors.inputs import question_text, to_passage
from tamis.probes.errors import BadInput
from tamis.probes.segmentation.language import resolve_language
from tamis.probes.text import Passage
from tamis.service.batch.job import OUTPUT_FIELDS, RAW_FIELD, BatchJob, RowFields

_SHOWN_CHARS = 60
_DOCUMENT_FIELDS = ("id", "title", "metadata", "keep", "min_tokens")


@dataclass(frozen=True, slots=True)
class InputRow:
    """One row of the input.

    Attributes:
        number: in its input file, from 1.
        raw: the text of the row; None where there is none, as in Parquet.
        value: its fields; None if the row could not be read.
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
    """

    question: str
    passages: tuple[Passage, ...]
    asked: str

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
        return InputRow(number, raw, fault=f"{fault}; name the encoding with --encoding")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        return InputRow(number, text, fault=f"the line is not JSON ({error})")
    if not isinstance(value, dict):
        return InputRow(number, text, fault=f"the row is {_shorten(value)}; a row is a JSON object")
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
    if row.value is None:
        raise BadInput(row.fault or "the row cannot be read")
    asked = _question(row.value, job)
    question = question_text(asked, job.instruction, _history(row.value, job.fields))
    return RowRequest(question, _passages(row.value, job.fields), asked)


def _question(value: Mapping[str, Any], job: BatchJob) -> str:
    if job.query is not None:
        return job.query
    question = value.get(job.fields.query)
    if isinstance(question, str) and question.strip():
        return question
    if job.fields.query in value:
        raise BadInput(f"{job.fields.query!r} is {_shorten(question)}; give a question")
    raise BadInput(
        f"there is no field {job.fields.query!r}, but {_field_names(value)}; name it with "
        "--query-field, or ask one question of all rows with --query"
    )


def _history(value: Mapping[str, Any], fields: RowFields) -> Sequence[str]:
    """A row's earlier turns; Parquet has None where a row has no list."""
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
    raise BadInput(
        f"there is neither {fields.documents!r} nor {fields.context!r}, but {_field_names(value)}; "
        "name the field with --docs-field or --context-field"
    )


def _passage(given: Any, index: int, text: str) -> Passage:
    """A document as a passage; fields without a meaning here stay in the row and are ignored."""
    if not isinstance(given, Mapping):
        if isinstance(given, str):
            return Passage(given)
        raise BadInput(f"document {index} is {_shorten(given)}; give a text, or an object with one")
    if not isinstance(given.get(text), str):
        raise BadInput(
            f"document {index} has no text in {text!r}, but {_field_names(given)}; "
            "name the field with --text-field"
        )
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
    shown = repr(value)
    kind = type(value).__name__
    return shown if len(shown) <= _SHOWN_CHARS else f"{kind} {shown[:_SHOWN_CHARS]}…"


def _field_names(value: Mapping[str, Any]) -> str:
    names = [repr(name) for name in list(value)[:8]]
    return ", ".join(names) + (f" and {len(value) - 8} more" if len(value) > 8 else "") or "none"
