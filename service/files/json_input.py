"""JSON that the command line was given: documents and a question, or text like any other."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from tamis.probes.errors import BadInput

STDIN = "-"
JSONS = (".json", ".jsonl")
_BEGINNING_CHARS = 4096
_REQUEST = re.compile(
    r"""\s*\{(?:\s*"(?:question|query)"\s*:|.*?"(?:documents|passages)"\s*:\s*\[)""", re.DOTALL
)
_LIST = re.compile(r"""\s*\[\s*(?:"|\{[^{}]*"text"\s*:)""")


def record_of(text: str, name: str, suffix: str) -> dict[str, Any] | None:
    """`documents` and maybe a question, if that is what the text holds.

    Raises:
        BadInput: it was meant to hold them, and is no JSON.
    """
    plain = text.removeprefix("\ufeff")
    if suffix not in JSONS and not (name == STDIN and plain.lstrip()[:1] in ("{", "[")):
        return None
    value = _parsed(plain)
    if (key := _listed(value)) is not None:
        return {**value, "documents": value[key]}
    if isinstance(value, list) and value and all(map(_is_document, value)):
        return {"documents": value}
    if suffix != ".json" and (record := _of_lines(plain, name, suffix, value)):
        return record
    if isinstance(value, _Broken) and suffix != ".jsonl" and _looks_meant(plain):
        raise value.told(name)
    return None


def _of_lines(text: str, name: str, suffix: str, whole: Any) -> dict[str, Any] | None:
    """JSON Lines of documents; lines end at line feeds alone, U+2028 may stand in a string.

    Raises:
        BadInput: some lines are documents, or the name promises JSON Lines, and one is no JSON;
            or the lines are requests.
    """
    lines = {n: line for n, line in enumerate(text.split("\n"), 1) if line.strip()}
    values = {number: _parsed(line, number) for number, line in lines.items()}
    if (requests := sum(_listed(value) is not None for value in values.values())) > 1:
        raise BadInput(
            f"{called(name)} holds {requests} requests, each with documents of its own, and one is "
            "answered at a time; `tamis batch run` goes through a file of them"
        )
    documents = [value for value in values.values() if _is_document(value)]
    broken = next((v for v in values.values() if isinstance(v, _Broken)), None)
    first = next(iter(values.values()), None)
    meant = suffix == ".jsonl" or (isinstance(first, dict) and _is_document(first))
    if broken and meant and isinstance(whole, _Broken):
        raise broken.told(name)
    if documents and len(documents) < len(values) and not broken and meant:
        number = next(n for n, value in values.items() if not _is_document(value))
        raise BadInput(
            f"{called(name)}, line {number}: neither a text nor an object with `text`, as "
            f"{len(documents)} of {len(values)} lines are; mend it, or give it as text, in a file "
            "that ends in .txt"
        )
    return {"documents": documents} if values and len(documents) == len(values) else None


@dataclass(frozen=True, slots=True)
class _Broken:
    """Text that is no JSON: in which line, and why."""

    line: int
    why: str

    def told(self, name: str) -> BadInput:
        """The error to raise."""
        return BadInput(
            f"{called(name)}, line {self.line}: no JSON ({self.why}); mend it, or give it as text, "
            "in a file that ends in .txt"
        )


def _parsed(text: str, line: int = 1) -> Any:
    """The value, or how it is `_Broken`; `line` is that of the first character."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        return _Broken(line + error.lineno - 1, f"{error.msg} at column {error.colno}")
    except (ValueError, RecursionError) as error:
        return _Broken(line, str(error) or type(error).__name__)


def _looks_meant(text: str) -> bool:
    """Whether broken JSON begins as a request or a list of documents does."""
    head = text[:_BEGINNING_CHARS]
    return bool(_REQUEST.match(head) or _LIST.match(head))


def _is_document(value: Any) -> bool:
    return isinstance(value, str) or (
        isinstance(value, dict) and isinstance(value.get("text"), str)
    )


def _listed(value: Any) -> str | None:
    """Where a request has its documents; None of what is no request."""
    keys = ("documents", "passages") if isinstance(value, dict) else ()
    return next((key for key in keys if isinstance(value.get(key), list)), None)


def called(name: str) -> str:
    """What people know an input as."""
    return "standard input" if name == STDIN else name
