"""Rows and outcomes as the bytes of a part."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tamis.service.batch.job import OUTPUTS, RAW, Job
from tamis.service.batch.outcome import Outcome
from tamis.service.batch.rows import Row
from tamis.service.files import files
from tamis.service.files.cells import as_json

Columns = tuple[tuple[str, str], ...]
"""Name and type of each input column of a Parquet output: string, int64, double, bool or json."""


def jsonl(rows: Sequence[Row], outcomes: Sequence[Outcome], job: Job) -> bytes:
    """One line a row: its own fields, character by character as they were, then the added ones."""
    written = (_line(row, outcome, job) for row, outcome in zip(rows, outcomes, strict=True))
    return "".join(written).encode()


def _line(row: Row, outcome: Outcome, job: Job) -> str:
    added = as_json(outcome.fields(job))
    if row.value is None:
        own = "{}" if row.raw is None else as_json({job.name(RAW): row.raw})
    else:
        own = as_json(row.value) if row.raw is None else _one_line(row.raw, row.value)
    inside = own[:-1].rstrip()
    return f"{inside}{'' if inside == '{' else ', '}{added[1:]}\n"


def _one_line(raw: str, value: Mapping[str, Any]) -> str:
    """The object as it was written; lone surrogates that a decoder let through, as escapes."""
    try:
        raw.encode()
        return raw
    except UnicodeEncodeError:
        return as_json(value)


def schema_of(rows: Iterable[Row]) -> Columns:
    """The columns that some rows have: plain types where all agree, JSON text for all else.

    A name that is not UTF-8 can be no column: its field goes to `raw`.
    """
    kinds: dict[str, set[str]] = {}
    for row in rows:
        for name, value in (row.value or {}).items():
            if sound(name) == name:
                kinds.setdefault(name, set()).add(_kind(value))
    return tuple((name, _common(found - {"null"})) for name, found in kinds.items())


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    kinds = {str: "string", bool: "bool", float: "double", int: "int64"}
    return kinds.get(type(value), "json")


def _common(kinds: set[str]) -> str:
    if not kinds:
        return "json"
    return next(iter(kinds)) if len(kinds) == 1 else "json"


def parquet(
    rows: Sequence[Row], outcomes: Sequence[Outcome], job: Job, own: Any, columns: Columns
) -> bytes:
    """A Parquet file: the input's columns, then the added ones.

    Args:
        own: the input as an Arrow table, whose types stay; None for rows that came as text.
        columns: of the output, for those. What no column can hold is in `raw`, as JSON.
    """
    arrow = files.pyarrow()
    table = own if own is not None else _table(rows, job, columns)
    for name, kind in _types(arrow).items():
        values = [_arrow_value(getattr(outcome, name)) for outcome in outcomes]
        table = table.append_column(job.name(name), arrow.array(values, kind))
    sink = io.BytesIO()
    arrow.parquet.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def _types(arrow: Any) -> dict[str, Any]:
    span = arrow.struct(
        [
            ("document", arrow.int32()),
            ("start", arrow.int64()),
            ("end", arrow.int64()),
            ("score", arrow.float64()),
        ]
    )
    kinds = (
        arrow.string(),
        arrow.list_(span),
        arrow.list_(arrow.float64()),
        arrow.int64(),
        arrow.int64(),
        arrow.string(),
        arrow.string(),
    )
    return dict(zip(OUTPUTS, kinds, strict=True))


def _arrow_value(value: Any) -> Any:
    if isinstance(value, str):
        return sound(value)
    return list(value) if isinstance(value, tuple) else value


def sound(text: str) -> str:
    """Parquet holds UTF-8: lone surrogates become U+FFFD, as many code points, so spans hold."""
    from tamis.probes.tokens import encodable

    return encodable(text)


def _table(rows: Sequence[Row], job: Job, columns: Columns) -> Any:
    """Rows that came as text, in the columns that were found when the plan was made."""
    arrow = files.pyarrow()
    held: dict[str, list[Any]] = {name: [] for name, _ in columns}
    rest: list[str | None] = []
    for row in rows:
        fitting, over = _fitted(row.value or {}, columns)
        for name in held:
            held[name].append(fitting.get(name))
        rest.append(row.raw if row.value is None else as_json(over) if over else None)
    kinds = {
        name: arrow.string() if kind == "json" else _kind_of(arrow, kind) for name, kind in columns
    }
    arrays = {name: arrow.array(values, kinds[name]) for name, values in held.items()}
    raw = arrow.array([text if text is None else sound(text) for text in rest], arrow.string())
    return arrow.table({**arrays, job.name(RAW): raw})


def _kind_of(arrow: Any, kind: str) -> Any:
    return {"string": arrow.string(), "int64": arrow.int64(), "double": arrow.float64()}.get(
        kind, arrow.bool_()
    )


def _fitted(value: Mapping[str, Any], columns: Columns) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields that their columns can hold without a loss, and those that they cannot."""
    kinds = dict(columns)
    fitting: dict[str, Any] = {}
    over: dict[str, Any] = {}
    for name, one in value.items():
        kind = kinds.get(name)
        if kind == "json":
            fitting[name] = as_json(one) if one is not None else None
        elif kind is not None and (one is None or _holds(kind, one)):
            fitting[name] = one
        else:
            over[name] = one
    return fitting, over


def _holds(kind: str, value: Any) -> bool:
    if kind == "string":
        return isinstance(value, str) and sound(value) == value
    if kind == "int64":
        return type(value) is int and -(1 << 63) <= value < 1 << 63
    return _kind(value) == kind


def read_table(data: bytes, columns: Sequence[str] | None = None) -> Any:
    """A part that was written as Parquet, or those of its columns."""
    return files.pyarrow().parquet.ParquetFile(io.BytesIO(data)).read(columns)


def read_back(data: bytes, name: str, job: Job) -> list[Outcome]:
    """The outcomes in a part that was written; its other fields may be nothing for Python."""
    if name.endswith(".parquet"):
        rows = read_table(data, [job.name(output) for output in OUTPUTS]).to_pylist()
    else:
        rows = _objects(data, name)
    return [Outcome.from_row(row, job) for row in rows]


def count_rows(data: bytes, name: str) -> int:
    """How many rows a part holds, each read."""
    if name.endswith(".parquet"):
        return int(read_table(data).num_rows)
    return len(_objects(data, name))


def _objects(data: bytes, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in unpacked(data, name).split(b"\n") if line]


def unpacked(data: bytes, name: str) -> bytes:
    """The bytes of a part without its packing."""
    import gzip

    if name.endswith(".gz"):
        return gzip.decompress(data)
    if name.endswith(".zst"):
        with files.zstandard().ZstdDecompressor().stream_reader(io.BytesIO(data)) as stream:
            whole: bytes = stream.read()
        return whole
    return data
