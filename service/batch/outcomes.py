"""The result of each row, and rows with their results as the bytes of a part."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tamis.compressors.types import Compressed
from tamis.service.batch.job import OUTPUT_FIELDS, RAW_FIELD, BatchJob
from tamis.service.batch.plan import Columns
from tamis.service.batch.rows import InputRow
from tamis.service.files import row_values
from tamis.service.files.row_values import to_json
from tamis.service.files.streams import unpack


@dataclass(frozen=True, slots=True)
class RowOutcome:
    """The fields that are added to a row.

    Attributes:
        spans: for every kept sentence its document (from 0), its half-open code-point span in that
            document's text, and its score; null where the context fitted and nothing was scored.
        scores: one per document; empty where nothing was scored.
        status: `ok`, `passthrough`, `unanswerable` or `error`.
        answerability: the probability that the documents hold an answer, if known.
        verdict, reason: what follows from it, and why, as in `Compressed`.
        warnings: what the caller should know of the result.
        unusable: whether the row itself was refused, so that no other run can do better.
    """

    compressed: str | None = None
    spans: tuple[Mapping[str, Any], ...] = ()
    scores: tuple[float, ...] = ()
    tokens_in: int | None = None
    tokens_out: int | None = None
    status: str = "error"
    answerability: float | None = None
    verdict: str | None = None
    reason: str | None = None
    warnings: tuple[str, ...] = ()
    error: str | None = None
    unusable: bool = False

    @classmethod
    def from_compressed(cls, result: Compressed, warnings: Sequence[str] = ()) -> RowOutcome:
        """The outcome of a compression, with what is to be known of its row before its own."""
        scored = bool(result.scores)
        spans = (
            {
                "document": kept.passage,
                "start": kept.start,
                "end": kept.stop,
                "score": kept.score if scored else None,
            }
            for kept in result.kept
        )
        return cls(
            result.text,
            tuple(spans),
            tuple(result.passage_scores),
            result.tokens_in,
            result.tokens_out,
            result.status,
            result.answerability,
            result.verdict,
            result.reason,
            (*warnings, *result.warnings),
        )

    @classmethod
    def from_row(cls, row: Mapping[str, Any], job: BatchJob) -> RowOutcome:
        """The outcome in a row that was written, by the names that the job gives its fields."""
        values: dict[str, Any] = {name: row.get(job.field_name(name)) for name in OUTPUT_FIELDS}
        for name in ("spans", "scores", "warnings"):
            values[name] = tuple(values[name] or ())
        return cls(**values)


OutcomeCallback = Callable[[RowOutcome], None]


def encode_jsonl(rows: Sequence[InputRow], outcomes: Sequence[RowOutcome], job: BatchJob) -> bytes:
    """One line per row: its fields, character by character as in the input, then the added ones.

    NaN and infinity, which JSON lacks, become null. A row that loses fields by `only_kept` is
    written anew.
    """
    written = (_json_line(row, outcome, job) for row, outcome in zip(rows, outcomes, strict=True))
    return "".join(written).encode()


def _json_line(row: InputRow, outcome: RowOutcome, job: BatchJob) -> str:
    added = to_json({job.field_name(name): getattr(outcome, name) for name in OUTPUT_FIELDS})
    if row.value is None:
        own = "{}" if row.raw is None else to_json({job.field_name(RAW_FIELD): row.raw})
    elif job.dropped_fields & set(row.value):
        own = to_json(
            {name: row.value[name] for name in row.value if name not in job.dropped_fields}
        )
    else:
        own = to_json(row.value) if row.raw is None else _own_fields(row.raw, row.value)
    inside = own[:-1].rstrip()
    return f"{inside}{'' if inside == '{' else ', '}{added[1:]}\n"


def _own_fields(raw: str, value: Mapping[str, Any]) -> str:
    """The object as in the input, with null for NaN and infinity.

    Lone surrogates that a decoder let through become escapes.
    """
    try:
        raw.encode()
    except UnicodeEncodeError:
        return to_json(value)
    if "NaN" in raw or "Infinity" in raw:
        return _TEXT_OR_CONSTANT.sub(lambda found: found["text"] or "null", raw)
    return raw


_TEXT_OR_CONSTANT = re.compile(r'(?P<text>"(?:[^"\\]++|\\.)*+")|NaN|-?Infinity')


def columns_of(rows: Iterable[InputRow]) -> Columns:
    """The columns of some rows: a plain type or a list of texts where all rows agree, else
    JSON text.

    A name that is not valid UTF-8 cannot be a column: its field goes to `raw`.
    """
    kinds: dict[str, set[str]] = {}
    for row in rows:
        for name, value in (row.value or {}).items():
            if utf8_text(name) == name:
                kinds.setdefault(name, set()).add(_column_type(value))
    return tuple((name, _common_type(found - {"null"})) for name, found in kinds.items())


def _column_type(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return "strings"
    kinds = {str: "string", bool: "bool", float: "double", int: "int64"}
    return kinds.get(type(value), "json")


def _common_type(kinds: set[str]) -> str:
    return next(iter(kinds)) if len(kinds) == 1 else "json"


def encode_parquet(
    rows: Sequence[InputRow],
    outcomes: Sequence[RowOutcome],
    job: BatchJob,
    own: Any,
    columns: Columns,
) -> bytes:
    """A Parquet file: the input's columns, then the added ones.

    Args:
        own: the input as an Arrow table, whose types are kept; None for rows from text.
        columns: of the output, for rows from text. What no column can hold goes to `raw` as JSON.
    """
    arrow = row_values.import_pyarrow()
    table = own
    if table is None:
        table, misfits = _input_table(rows, job, columns)
        outcomes = [
            replace(one, warnings=tuple(dict.fromkeys((*misfit, *one.warnings))))
            for one, misfit in zip(outcomes, misfits, strict=True)
        ]
    if dropped := sorted(job.dropped_fields & set(table.column_names)):
        table = table.drop_columns(dropped)
    for name, kind in _output_types(arrow).items():
        values = [_arrow_value(getattr(outcome, name)) for outcome in outcomes]
        table = table.append_column(job.field_name(name), arrow.array(values, kind))
    sink = io.BytesIO()
    arrow.parquet.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def _output_types(arrow: Any) -> dict[str, Any]:
    """The type of each added field: text, unless it is named here."""
    place, share = arrow.int64(), arrow.float64()
    span = {"document": arrow.int32(), "start": place, "end": place, "score": share}
    return dict.fromkeys(OUTPUT_FIELDS, arrow.string()) | {
        "spans": arrow.list_(arrow.struct(span)),
        "scores": arrow.list_(share),
        "tokens_in": arrow.int64(),
        "tokens_out": arrow.int64(),
        "answerability": share,
        "warnings": arrow.list_(arrow.string()),
    }


def _arrow_value(value: Any) -> Any:
    if isinstance(value, str):
        return utf8_text(value)
    return [_arrow_value(one) for one in value] if isinstance(value, tuple) else value


def utf8_text(text: str) -> str:
    """Text for Parquet, which is UTF-8: lone surrogates become U+FFFD, so that spans stay valid."""
    from tamis.probes.tokens import replace_surrogates

    return replace_surrogates(text)


def _input_table(
    rows: Sequence[InputRow], job: BatchJob, columns: Columns
) -> tuple[Any, list[tuple[str, ...]]]:
    """Rows from text, in the columns that the plan determined, and a warning of each misfit."""
    arrow = row_values.import_pyarrow()
    cells: dict[str, list[Any]] = {name: [] for name, _ in columns}
    rest: list[str | None] = []
    misfits: list[tuple[str, ...]] = []
    kinds = dict(columns)
    for row in rows:
        # the fields that their columns can hold without loss, and the remaining ones
        fitting, remaining = dict[str, Any](), dict[str, Any]()
        for name, one in (row.value or {}).items():
            kind = kinds.get(name)
            if kind == "json":
                fitting[name] = to_json(one) if one is not None else None
            elif kind is not None and (one is None or _can_hold(kind, one)):
                fitting[name] = one
            else:
                remaining[name] = one
        names = utf8_text(", ".join(map(repr, remaining)))
        why = f"no column holds {names} of this row; see {job.field_name(RAW_FIELD)!r}"
        misfits.append((why,) if remaining else ())
        for name in cells:
            cells[name].append(fitting.get(name))
        rest.append(row.raw if row.value is None else to_json(remaining) if remaining else None)
    string = arrow.string()
    types = {"string": string, "json": string, "strings": arrow.list_(string)}
    types |= {"int64": arrow.int64(), "double": arrow.float64(), "bool": arrow.bool_()}
    arrays = {name: arrow.array(cells[name], types[kind]) for name, kind in columns}
    raw = arrow.array([text if text is None else utf8_text(text) for text in rest], string)
    return arrow.table({**arrays, job.field_name(RAW_FIELD): raw}), misfits


def _can_hold(kind: str, value: Any) -> bool:
    if kind == "string":
        return isinstance(value, str) and utf8_text(value) == value
    if kind == "strings":
        return _column_type(value) == kind and all(_can_hold("string", one) for one in value)
    if kind == "int64":
        return type(value) is int and -(1 << 63) <= value < 1 << 63
    return _column_type(value) == kind


def read_table(data: bytes, columns: Sequence[str] | None = None) -> Any:
    """A part that was written as Parquet, all of it or some columns.

    By this thread alone: one that Arrow is just starting when the process ends aborts it.
    """
    file = row_values.import_pyarrow().parquet.ParquetFile(io.BytesIO(data))
    return file.read(columns, use_threads=False)


def read_outcomes(data: bytes, name: str, job: BatchJob) -> list[RowOutcome]:
    """The outcomes in a part that was written; its other fields are not converted to Python."""
    if name.endswith(".parquet"):
        rows = read_table(data, [job.field_name(output) for output in OUTPUT_FIELDS]).to_pylist()
    else:
        rows = _json_rows(data, name)
    return [RowOutcome.from_row(row, job) for row in rows]


def count_rows(data: bytes, name: str) -> int:
    """The number of rows in a part, each of which is parsed."""
    if name.endswith(".parquet"):
        return int(read_table(data).num_rows)
    return len(_json_rows(data, name))


def _json_rows(data: bytes, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in unpack(data, name).split(b"\n") if line]
