"""Documents and a question from JSON that a command was given; any other JSON is text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tamis.probes.errors import BadInput
from tamis.service.documents.decoding import STDIN, display_name

JSON_SUFFIXES = (".json", ".jsonl")
_BEGINNING_CHARS = 4096
_REQUEST = re.compile(
    r"""\s*\{(?:\s*"(?:question|query)"\s*:|.*?"(?:documents|passages)"\s*:\s*\[)""", re.DOTALL
)
_LIST = re.compile(r"""\s*\[\s*(?:"|\{[^{}]*"text"\s*:)""")


def record_of(
    text: str, name: str, suffix: str, warn: Callable[[str], object]
) -> dict[str, Any] | None:
    """A request with `documents` and maybe a question, if the text holds one; else None.

    Args:
        warn: is told of a text that is named as JSON and is none.

    Raises:
        BadInput: the text was meant as a request and is not valid JSON.
    """
    plain = text.removeprefix("\ufeff")
    if suffix not in JSON_SUFFIXES and not (name == STDIN and plain.lstrip()[:1] in ("{", "[")):
        return None
    value = _parse(plain)
    if (key := _documents_key(value)) is not None:
        return {**value, "documents": value[key]}
    if isinstance(value, list) and value and all(map(_is_document, value)):
        return {"documents": value}
    if suffix != ".json" and (record := _record_of_lines(plain, name, suffix, value)):
        return record
    if isinstance(value, _BrokenJson) and suffix != ".jsonl" and _resembles_request(plain):
        raise value.to_error(name)
    if isinstance(value, _BrokenJson) and suffix == ".json" and plain.strip():
        warn(f"{value.fault(name)}; it is read as text")
    return None


def _record_of_lines(text: str, name: str, suffix: str, whole: Any) -> dict[str, Any] | None:
    """JSON Lines of documents; lines end at line feeds alone, since a string may hold U+2028.

    Raises:
        BadInput: some lines are documents, or the name ends in .jsonl, and one line is not valid
            JSON; or the lines are requests.
    """
    lines = {n: line for n, line in enumerate(text.split("\n"), 1) if line.strip()}
    values = {number: _parse(line, number) for number, line in lines.items()}
    if (requests := sum(_documents_key(value) is not None for value in values.values())) > 1:
        raise BadInput(
            f"{display_name(name)} holds {requests} requests, each with documents of its own, and "
            "one is answered at a time; `tamis batch run` goes through a file of them"
        )
    documents = [value for value in values.values() if _is_document(value)]
    broken = next((v for v in values.values() if isinstance(v, _BrokenJson)), None)
    first = next(iter(values.values()), None)
    meant = suffix == ".jsonl" or (isinstance(first, dict) and _is_document(first))
    if broken and meant and isinstance(whole, _BrokenJson):
        raise broken.to_error(name)
    if documents and len(documents) < len(values) and not broken and meant:
        number = next(n for n, value in values.items() if not _is_document(value))
        raise BadInput(
            f"{display_name(name)}, line {number}: neither a text nor an object with `text`, as "
            f"{len(documents)} of {len(values)} lines are; mend it, or give it as text, in a file "
            "that ends in .txt"
        )
    return {"documents": documents} if values and len(documents) == len(values) else None


@dataclass(frozen=True, slots=True)
class _BrokenJson:
    """Where text is not valid JSON, and why."""

    line: int
    why: str

    def to_error(self, name: str) -> BadInput:
        """The error to raise for an input of that name."""
        return BadInput(
            f"{self.fault(name)}; mend it, or give it as text, in a file that ends in .txt"
        )

    def fault(self, name: str) -> str:
        """What is wrong with an input of that name, and where."""
        return f"{display_name(name)}, line {self.line}: no JSON ({self.why})"


def _parse(text: str, line: int = 1) -> Any:
    """The value, or a `_BrokenJson`; `line` is the line number of the first character."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        return _BrokenJson(line + error.lineno - 1, f"{error.msg} at column {error.colno}")
    except (ValueError, RecursionError) as error:
        return _BrokenJson(line, str(error) or type(error).__name__)


def _resembles_request(text: str) -> bool:
    """Whether invalid JSON begins as a request or a list of documents does."""
    head = text[:_BEGINNING_CHARS]
    return bool(_REQUEST.match(head) or _LIST.match(head))


def _is_document(value: Any) -> bool:
    return isinstance(value, str) or (
        isinstance(value, dict) and isinstance(value.get("text"), str)
    )


def _documents_key(value: Any) -> str | None:
    """The key of a request's documents; None if the value is not a request."""
    keys = ("documents", "passages") if isinstance(value, dict) else ()
    return next((key for key in keys if isinstance(value.get(key), list)), None)
