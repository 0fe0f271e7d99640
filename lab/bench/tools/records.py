"""Labelled outputs of tools: the text, the call that made it, and which lines matter.

A file holds one kind: JSON Lines, optionally packed with xz. A line is an output with its `text`,
the call's `name` and `arguments`, the user's `question` or null, `gold` (spans that answer it),
`errors` (spans that must never be lost) and `rules` (what must hold of whatever is left). Spans are
half-open, in code points. A line without `text` says who made the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tamis.compressors.tools.types import ToolOutput
from tamis.probes.errors import BadInput
from tamis.service.files.streams import read_json_lines
from tamis_lab.datasets.records import take_evenly

OUTPUTS_FOLDER = Path(__file__).parent / "outputs"
"""The outputs that come with tamis."""
_ENDINGS = (".jsonl.xz", ".jsonl")
NOTHING_ASKED = "What happened?"
Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Rule:
    """What must hold of a shortened output.

    Attributes:
        name: `lines`, `json`, `json_lines`, or that of a rule with headers.
        headers: patterns of header lines, outermost first, under which every line stays.
    """

    name: str
    headers: tuple[re.Pattern[str], ...] = ()


@dataclass(frozen=True, slots=True)
class LabelledOutput:
    """One output of a tool, as in the text above.

    Attributes:
        kind: the name of its file.
    """

    id: str
    kind: str
    output: ToolOutput
    question: str | None
    gold: tuple[Span, ...]
    errors: tuple[Span, ...]
    rules: tuple[Rule, ...]

    @property
    def text(self) -> str:
        """What the tool printed."""
        return self.output.text

    @property
    def asked(self) -> str:
        """The call with the question: what compressors that know nothing of tools are asked."""
        return (
            "\n".join(part for part in (self.output.call, self.question) if part) or NOTHING_ASKED
        )

    @property
    def is_json(self) -> bool:
        """Whether the whole text is one JSON value."""
        return any(rule.name == "json" for rule in self.rules)


def find_kinds(folder: Path) -> dict[str, Path]:
    """The files of a folder by kind, sorted.

    Raises:
        BadInput: there is no such folder, or no file in it.
    """
    files = sorted(folder.glob("*.jsonl*")) if folder.is_dir() else []
    found = {
        path.name.removesuffix(ending): path
        for path in files
        for ending in _ENDINGS
        if path.name.endswith(ending)
    }
    if not found:
        raise BadInput(
            f"{folder} has no labelled outputs; give --data with a folder of KIND.jsonl files"
        )
    return found


def load_outputs(path: Path, kind: str, limit: int | None = None) -> list[LabelledOutput]:
    """The outputs of a file, in its order; with a limit, at even distances.

    Raises:
        BadInput: it cannot be read, or a line is no labelled output.
    """
    rows = [
        _parse_output(row, kind, f"{path}, line {number}")
        for number, row in read_json_lines(path)
        if "text" in row
    ]
    if not rows:
        raise BadInput(f"{path} has no labelled output")
    return take_evenly(rows, limit or len(rows))


def file_facts(path: Path) -> dict[str, Any]:
    """What a file says of itself: the seed, and the versions of the tools that made it."""
    return next((row for _, row in read_json_lines(path) if "text" not in row), {})


def _parse_output(row: Mapping[str, Any], kind: str, place: str) -> LabelledOutput:
    try:
        text, name, arguments = (row.get(field) for field in ("text", "name", "arguments"))
        question = row.get("question")
        if not isinstance(text, str) or any(
            not isinstance(words, str | None) for words in (name, arguments, question)
        ):
            raise BadInput(f"{place}: text, name, arguments and question are strings")
        return LabelledOutput(
            str(row["id"]),
            kind,
            ToolOutput(text, name, arguments),
            question,
            _parse_spans(row["gold"], text, place),
            _parse_spans(row.get("errors", ()), text, place),
            tuple(_parse_rule(rule) for rule in row.get("rules", ())),
        )
    except (LookupError, TypeError, ValueError, re.error) as error:
        raise BadInput(f"{place} is no labelled output: {error!r}") from error


def _parse_spans(given: Sequence[Sequence[int]], text: str, place: str) -> tuple[Span, ...]:
    spans = tuple((int(start), int(stop)) for start, stop in given)
    if wrong := [span for span in spans if not 0 <= span[0] < span[1] <= len(text)]:
        raise BadInput(f"{place}: {list(wrong[0])} is no span of its {len(text)} code points")
    return spans


_PLAIN_RULES = ("lines", "json", "json_lines")


def _parse_rule(rule: Mapping[str, Any]) -> Rule:
    name, patterns = str(rule["rule"]), rule.get("headers", ())
    if not patterns and name not in _PLAIN_RULES:
        raise ValueError(f"rule {name!r} has no headers; without: {', '.join(_PLAIN_RULES)}")
    return Rule(name, tuple(re.compile(pattern) for pattern in patterns))
