"""Strict JSON (RFC 8259) with every string that Python can hold.

A lone surrogate is text like any other: it is read and written as its escape. NaN and Infinity,
which Python's parser accepts and JSON does not have, are refused; so is an object that has a name
twice, of whose values parsers obey one and drop the others.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from json.decoder import JSONArray, JSONObject  # type: ignore[attr-defined]
from json.scanner import py_make_scanner  # type: ignore[attr-defined]
from typing import Any

import orjson
from starlette.responses import Response

from tamis.service.files.row_values import replace_non_finite

MAX_DEPTH, MAX_VALUES, MAX_DIGITS = 64, 500_000, 4000
FEW_SIGNS = 100_000
"""A text with more commas and brackets is parsed value by value: the parser in C would hold the
interpreter, and with it every other request, for up to half a second for a body of 8 MB."""
MEDIA_TYPE = "application/json"
_SHOWN_CHARS = 80


def loads(data: bytes) -> Any:
    """A JSON text as Python values.

    Raises:
        json.JSONDecodeError: no JSON, numbers JSON does not have, a name twice in one object,
            nesting deeper than 64, or more than 500,000 values.
    """
    try:
        text = data.decode("utf-8-sig")
        many = sum(map(data.count, (b",", b"[", b"{"))) > FEW_SIGNS
        value = (PatientDecoder if many else Decoder)().decode(text)
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise json.JSONDecodeError(f"it is nested deeper than {MAX_DEPTH}", "", 0) from None
    except UnicodeDecodeError as error:
        raise json.JSONDecodeError(f"it is not UTF-8 ({error.reason})", "", error.start) from None
    except ValueError as error:  # numbers: NaN, 1e999, more digits than Python converts
        raise json.JSONDecodeError(str(error), "", 0) from None
    if _is_deeper_than(value, MAX_DEPTH):
        raise json.JSONDecodeError(f"it is nested deeper than {MAX_DEPTH}", "", 0)
    return value


class Decoder(json.JSONDecoder):
    """JSON with finite numbers alone; numbers are converted in Python, for they may be many."""

    def __init__(self) -> None:
        super().__init__(
            object_pairs_hook=_object_of,
            parse_constant=_refuse_constant,
            parse_float=_parse_finite,
            parse_int=_parse_whole,
        )


class PatientDecoder(Decoder):
    """The same, value by value in Python, so that other threads have their turn; and counted."""

    def __init__(self) -> None:
        super().__init__()
        self.values = 0
        self.parse_object = self._parse_object
        self.parse_array = self._parse_array
        self.scan_once = py_make_scanner(self)

    def _parse_object(
        self, start: Any, strict: bool, scan_once: Any, *rest: Any
    ) -> tuple[Any, int]:
        found: tuple[Any, int] = JSONObject(start, strict, self._count_values(scan_once), *rest)
        return found

    def _parse_array(self, start: Any, scan_once: Any) -> tuple[Any, int]:
        found: tuple[Any, int] = JSONArray(start, self._count_values(scan_once))
        return found

    def _count_values(self, scan_once: Any) -> Any:
        def scan(text: str, at: int) -> Any:
            self.values += 1
            if self.values > MAX_VALUES:
                raise ValueError(f"it has more than {MAX_VALUES:,} values")
            return scan_once(text, at)

        return scan


def dumps(value: Any) -> bytes:
    """Values as JSON in UTF-8; strings that UTF-8 cannot encode are escaped."""
    try:
        return orjson.dumps(value)
    except TypeError:  # a lone surrogate, or a number of more than 64 bits
        return json.dumps(replace_non_finite(value), ensure_ascii=True, allow_nan=False).encode()


class JsonResponse(Response):
    """A response in JSON."""

    media_type = MEDIA_TYPE

    def render(self, content: Any) -> bytes:
        """The body as bytes."""
        return dumps(content)


def _object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"an object has the name {twice!r:.{_SHOWN_CHARS}} twice")
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _parse_finite(digits: str) -> float:
    if not math.isfinite(value := float(digits)):
        raise ValueError(f"{digits[:20]} is larger than any number here")
    return value


def _parse_whole(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number has {len(digits):,} digits, more than {MAX_DIGITS:,}")
    return int(digits)


def _is_deeper_than(value: Any, most: int) -> bool:
    """Whether lists and objects are nested deeper than `most`; without recursion."""
    level = [value]
    for _ in range(most + 1):
        nested = [v for v in level if isinstance(v, list | dict)]
        if not nested:
            return False
        level = [w for v in nested for w in (v.values() if isinstance(v, dict) else v)]
    return any(isinstance(v, list | dict) for v in level)
