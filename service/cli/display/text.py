"""Text for output: JSON without data loss, and text that is safe to print on a terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tamis.service.files.row_values import replace_non_finite

_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROLS = {
    **{c: 0x2400 + c for c in range(0x20) if chr(c) not in "\t\n"},
    0x7F: 0x2421,
    **dict.fromkeys((*range(0x80, 0xA0), *range(0xD800, 0xE000)), 0xFFFD),
}


def dump_json(value: Mapping[str, Any] | Sequence[Any]) -> str:
    """Indented JSON: a lone surrogate becomes its escape, so that none is lost; NaN and infinity,
    which JSON lacks, become null.
    """
    text = json.dumps(replace_non_finite(value), ensure_ascii=False, allow_nan=False, indent=2)
    return _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def printable(text: str) -> str:
    """A text for a terminal or page: as many code points, without control characters.

    Control characters become their Unicode symbols, lone surrogates U+FFFD; tabs and line feeds
    stay.
    """
    return text.translate(_CONTROLS)


def print_note(text: str) -> None:
    """Prints a line to standard error; names of files in it cannot control the terminal."""
    import typer

    typer.echo(printable(text), err=True)
