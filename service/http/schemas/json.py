"""Strict JSON (RFC 8259) with every string that Python can hold.

A lone surrogate is text like any other: it is read and written as its escape. NaN and Infinity,
which Python's parser accepts and JSON does not have, are refused.
"""

from __future__ import annotations

import json
import math
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from tamis.service.files.json_values import replace_non_finite

MAX_DEPTH = 64
MEDIA_TYPE = "application/json"


def loads(data: bytes) -> Any:
    """A JSON text as Python values.

    Raises:
        json.JSONDecodeError: no JSON, numbers JSON does not have, or nesting deeper than 64.
    """
    try:
        text = data.decode("utf-8-sig")
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_parse_finite)
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


class JsonRequest(Request):
    """A request whose body is parsed by `loads`."""

    async def json(self) -> Any:
        """The parsed body.

        Raises:
            json.JSONDecodeError: as `loads`.
        """
        if not hasattr(self, "_json"):
            self._json = loads(await self.body())
        return self._json


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _parse_finite(digits: str) -> float:
    if not math.isfinite(value := float(digits)):
        raise ValueError(f"{digits[:20]} is larger than any number here")
    return value


def _is_deeper_than(value: Any, most: int) -> bool:
    """Whether lists and objects are nested deeper than `most`; without recursion."""
    level = [value]
    for _ in range(most + 1):
        nested = [v for v in level if isinstance(v, list | dict)]
        if not nested:
            return False
        level = [w for v in nested for w in (v.values() if isinstance(v, dict) else v)]
    return any(isinstance(v, list | dict) for v in level)
