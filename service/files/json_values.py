"""JSON that every parser accepts, from any Python values."""

from __future__ import annotations

import base64
import datetime
import json
import math
from collections.abc import Mapping
from typing import Any

from tamis.service.files.parquet import ArrowRow


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
    return text if text.isascii() else _escape_surrogates(text)


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_json_default)


def _escape_surrogates(text: str) -> str:
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        return "".join(f"\\u{ord(c):04x}" if "\ud800" <= c <= "\udfff" else c for c in text)


def _json_default(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return str(value)
