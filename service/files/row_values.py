"""Values of rows: cells of Parquet files as Python values, and JSON that every parser accepts.

A cell is converted when it is read; the package that reads Parquet is an extra.
"""

from __future__ import annotations

import base64
import datetime
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tamis.probes.errors import BadInput
from tamis.probes.extras import import_extra
from tamis.service.files.streams import filesystem

_SURROGATE = re.compile("[\ud800-\udfff]")


def replace_non_finite(value: Any) -> Any:
    """A copy with None, which JSON writes as null, for NaN and infinity at any depth."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: replace_non_finite(inner) for name, inner in value.items()}
    return (
        [replace_non_finite(inner) for inner in value] if isinstance(value, list | tuple) else value
    )


def to_json(value: Any) -> str:
    """JSON that every parser accepts: lone surrogates as escapes, dates and decimals as text, bytes
    in base64, NaN and infinity as null, and `str(value)` of anything else that JSON lacks.
    """
    value = value.escaped_cells() if isinstance(value, ArrowRow) else value
    try:
        text = _dump(value)
    except ValueError:
        text = _dump(replace_non_finite(value))
    return text if text.isascii() else escape_surrogates(text)


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_json_default)


def escape_surrogates(text: str) -> str:
    """The text with each half of a character as its escape in JSON, so that none is lost."""
    return _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _json_default(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return str(value)


def import_pyarrow() -> Any:
    """The package `pyarrow`, with its module for Parquet.

    Raises:
        MissingExtra: it is not installed, with the command that installs it.
    """
    return import_extra("pyarrow.parquet", "Parquet", "batch")


def open_parquet(url: str) -> Any:
    """An open Parquet file.

    Raises:
        BadInput: it is not a Parquet file, or columns share a name. MissingExtra: pyarrow is not
            installed.
    """
    arrow = import_pyarrow()
    fs, path = filesystem(url)
    try:
        file = arrow.parquet.ParquetFile(path, pre_buffer=False, filesystem=fs)
        names = file.schema_arrow.names
    except (arrow.ArrowException, OSError) as error:
        raise BadInput(f"{url} cannot be read as Parquet ({error}); bring a whole copy") from error
    if shared := sorted({name for name in names if names.count(name) > 1}):
        file.close()
        raise BadInput(f"{url} has several columns {shared[0]!r:.80}; write it with one of each")
    return file


# what Arrow raises for nanoseconds, years and time zones that Python lacks, and for invalid text
_CONVERSION_ERRORS = (
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    NotImplementedError,
    ImportError,
)


class ArrowRow(Mapping[str, Any]):
    """One row of an Arrow table; a cell is converted when it is read.

    So cells that nobody reads may hold what Python cannot represent. Reading a cell raises
    `BadInput` where its text is not UTF-8: text is never changed silently.
    """

    __slots__ = ("columns", "row")

    def __init__(self, columns: Mapping[str, Any], row: int) -> None:
        self.columns, self.row = columns, row

    def __getitem__(self, name: str) -> Any:
        cell = self.columns[name][self.row]
        try:
            return _as_python(cell, "strict")
        except UnicodeDecodeError as error:
            raise BadInput(
                f"{name!r} holds text that is not UTF-8 (byte 0x{error.object[error.start]:02x} at "
                f"{error.start} of {len(error.object)}); write the file again with text as UTF-8"
            ) from error

    def __contains__(self, name: object) -> bool:
        return name in self.columns

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)

    def escaped_cells(self) -> dict[str, Any]:
        """Every cell by name; bytes that are not UTF-8 become escapes such as `\\xff`."""
        return {
            name: _as_python(column[self.row], "backslashreplace")
            for name, column in self.columns.items()
        }


def iterate_rows(table: Any) -> Iterator[ArrowRow]:
    """The rows of an Arrow table or batch, whose columns have a name each."""
    columns = dict(zip(table.schema.names, table.columns, strict=True))
    for row in range(table.num_rows):
        yield ArrowRow(columns, row)


def _as_python(cell: Any, errors: str) -> Any:
    """A cell as a Python value, or as text where Python has no type for it."""
    try:
        return cell.as_py()
    except _CONVERSION_ERRORS:
        return _convert_by_type(cell, errors)


def _convert_by_type(cell: Any, errors: str) -> Any:
    """A cell that `as_py` cannot convert: its parts one by one, else its text."""
    arrow = import_pyarrow()
    if isinstance(cell, arrow.BinaryScalar):  # strings are a subclass
        return cell.as_buffer().to_pybytes().decode("utf-8", errors)
    if isinstance(cell, arrow.StructScalar):
        names = [field.name for field in cell.type]
        return {name: _as_python(cell[i], errors) for i, name in enumerate(names)}
    if isinstance(cell, arrow.MapScalar):
        return [[_as_python(pair[0], errors), _as_python(pair[1], errors)] for pair in cell.values]
    if isinstance(cell, arrow.ListScalar):
        return [_as_python(one, errors) for one in cell.values]
    if isinstance(cell, arrow.DictionaryScalar | arrow.ExtensionScalar):
        return _as_python(cell.value, errors)
    return _as_text(cell)


def _as_text(cell: Any) -> str:
    """Dates and times as Arrow writes them, to the nanosecond."""
    arrow = import_pyarrow()
    if isinstance(cell, arrow.DurationScalar):
        return f"{cell.value} {cell.type.unit}"
    try:
        text = str(cell.cast(arrow.string()).as_py())
    except _CONVERSION_ERRORS:
        return str(getattr(cell, "value", cell.type))
    return text.replace(" ", "T", 1) if isinstance(cell, arrow.TimestampScalar) else text
