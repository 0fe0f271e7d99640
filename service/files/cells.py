"""Cells of Arrow tables as Python and JSON have them; most never have to be either."""

from __future__ import annotations

import base64
import datetime
import json
from collections.abc import Iterator, Mapping
from typing import Any

from tamis.probes.errors import BadInput
from tamis.service.files import files
from tamis.service.files.json_values import finite

# what Arrow raises of nanoseconds, years and zones that Python has not, and of broken text
_UNHELD = (ValueError, TypeError, LookupError, ArithmeticError, NotImplementedError, ImportError)


class Cells(Mapping[str, Any]):
    """One row; a cell becomes Python when it is asked for, so that the others need not be able to.

    Asking for one raises `BadInput` where its text is not UTF-8: text is never changed in silence.
    """

    __slots__ = ("columns", "row")

    def __init__(self, columns: Mapping[str, Any], row: int) -> None:
        self.columns, self.row = columns, row

    def __getitem__(self, name: str) -> Any:
        cell = self.columns[name][self.row]
        try:
            return _held(cell, "strict")
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

    def shown(self) -> dict[str, Any]:
        """Every cell, bytes that are not UTF-8 as `\\xff`."""
        return {
            name: _held(column[self.row], "backslashreplace")
            for name, column in self.columns.items()
        }


def cells(table: Any) -> Iterator[Cells]:
    """The rows of an Arrow table or batch; of columns of one name, the last."""
    columns = dict(zip(table.schema.names, table.columns, strict=True))
    for row in range(table.num_rows):
        yield Cells(columns, row)


def _held(cell: Any, errors: str) -> Any:
    """A cell as Python, or as text where Python has nothing that holds it."""
    try:
        return cell.as_py()
    except _UNHELD:
        return _in_parts(cell, errors)


def _in_parts(cell: Any, errors: str) -> Any:
    arrow = files.pyarrow()
    if isinstance(cell, arrow.BinaryScalar):  # text of every kind, too
        return cell.as_buffer().to_pybytes().decode("utf-8", errors)
    if isinstance(cell, arrow.StructScalar):
        names = [field.name for field in cell.type]
        return {name: _held(cell[i], errors) for i, name in enumerate(names)}
    if isinstance(cell, arrow.MapScalar):
        return [[_held(pair[0], errors), _held(pair[1], errors)] for pair in cell.values]
    if isinstance(cell, arrow.ListScalar):
        return [_held(one, errors) for one in cell.values]
    if isinstance(cell, arrow.DictionaryScalar | arrow.ExtensionScalar):
        return _held(cell.value, errors)
    return _as_text(cell)


def _as_text(cell: Any) -> str:
    """Dates and times as Arrow writes them, to the nanosecond."""
    arrow = files.pyarrow()
    if isinstance(cell, arrow.DurationScalar):
        return f"{cell.value} {cell.type.unit}"
    try:
        text = str(cell.cast(arrow.string()).as_py())
    except _UNHELD:
        return str(getattr(cell, "value", cell.type))
    return text.replace(" ", "T", 1) if isinstance(cell, arrow.TimestampScalar) else text


def as_json(value: Any) -> str:
    """JSON that any reader takes: lone surrogates as escapes, dates and decimals as text, bytes in
    base64, NaN and infinity as null, what else JSON has not as Python's text of it.
    """
    value = value.shown() if isinstance(value, Cells) else value
    try:
        text = _dumped(value)
    except ValueError:
        text = _dumped(finite(value))
    return text if text.isascii() else _escaped(text)


def _dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain)


def _escaped(text: str) -> str:
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        return "".join(f"\\u{ord(c):04x}" if "\ud800" <= c <= "\udfff" else c for c in text)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return str(value)
