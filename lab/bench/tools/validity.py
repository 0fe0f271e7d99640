"""What is kept of the labels, and which rules a shortened output breaks; read from text alone.

    source, labels, rules ─┐
    shown text, markers ───┴─► gold and errors lost, violations by rule

A line counts as kept where the shown text has it as a line, blanks at its ends aside; a JSON value
where it is found in the parsed text. So a compressor that writes JSON anew is not wronged, and one
that cuts lines is not favoured. Some write lines in another form (a table as CSV, hits under their
file): their words may be there all the same, which is counted apart.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

from tamis_lab.bench.tools.records import LabelledOutput, Rule, Span

IsMarker = Callable[[str], bool]
"""Whether a line, or a string of a JSON text, stands for what was left out."""


def lost_labels(output: LabelledOutput, shown: str, spans: Sequence[Span]) -> list[str]:
    """The texts of labelled spans that the shown text does not have."""
    lines = {line.strip() for line in shown.split("\n")}
    return [text for text in _texts(output, spans) if not _is_kept(output, text, shown, lines)]


def count_reworded(texts: Sequence[str], shown: str) -> int:
    """How many texts are in the shown one in other words: each word is there, half in one line."""
    lines = [_words(line) for line in shown.split("\n")] if texts else []
    everything = set().union(*lines)
    return sum(
        (words := _words(text)) <= everything
        and any(2 * len(words & line) >= len(words) for line in lines)
        for text in texts
    )


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))


def _texts(output: LabelledOutput, spans: Sequence[Span]) -> list[str]:
    return [output.text[start:stop] for start, stop in spans]


def _is_kept(output: LabelledOutput, text: str, shown: str, lines: set[str]) -> bool:
    if output.is_json:
        return _has_value(shown, text)
    if "\n" in text or not _is_line(output.text, text):
        return text in shown
    return text.strip() in lines


def _is_line(source: str, text: str) -> bool:
    return f"\n{text}\n" in f"\n{source}\n"


def _has_value(shown: str, text: str) -> bool:
    try:
        parsed, wanted = json.loads(shown), json.loads(text)
    except ValueError:
        return text in shown
    return any(value == wanted for value in _values(parsed))


def _values(value: Any) -> Iterator[Any]:
    yield value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for each in inner:
        yield from _values(each)


def count_violations(output: LabelledOutput, shown: str, is_marker: IsMarker) -> dict[str, int]:
    """How often each rule of an output is broken by the shown text.

    `lines`: lines that are neither lines of the source nor markers. `json`: 1 if the text does not
    parse. `altered`: JSON values that are not in the source. `json_lines`: lines that do not parse.
    Rules with headers: lines of the source that stand under other headers.
    """
    counts: dict[str, int] = {}
    for rule in output.rules:
        if rule.name == "json":
            counts |= _json_violations(output.text, shown, is_marker)
        else:
            counts[rule.name] = _line_violations(rule, output.text, shown, is_marker)
    return counts


def _line_violations(rule: Rule, text: str, shown: str, is_marker: IsMarker) -> int:
    lines = [s for line in shown.split("\n") if (s := line.strip()) and not is_marker(s)]
    if rule.headers:
        return _misplaced_lines(rule, text, shown)
    if rule.name == "json_lines":
        return sum(not _parses(line) for line in lines)
    source = {line.strip() for line in text.split("\n")}
    return sum(line not in source for line in lines)


def _parses(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _misplaced_lines(rule: Rule, text: str, shown: str) -> int:
    """Lines of the source under headers that they do not have there; other lines are not judged."""
    source = set(headed_lines(text, rule.headers))
    known = {line for _, line in source}
    return sum(
        (path, line) not in source
        for path, line in headed_lines(shown, rule.headers)
        if line in known
    )


def headed_lines(
    text: str, headers: Sequence[re.Pattern[str]]
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every line that is not blank, with the headers above it; a header has those of outer levels.

    Args:
        headers: patterns by level. A header ends the headers of its own level and within.
    """
    path = [""] * len(headers)
    for line in (line.rstrip() for line in text.split("\n")):
        level = next((i for i, header in enumerate(headers) if header.search(line)), None)
        if level is not None:
            path[level:] = [""] * (len(headers) - level)
            yield tuple(path), line
            path[level] = line
        elif line:
            yield tuple(path), line


def _json_violations(text: str, shown: str, is_marker: IsMarker) -> dict[str, int]:
    try:
        parsed = json.loads(shown)
    except ValueError:
        return {"json": 1, "altered": 0}
    return {"json": 0, "altered": int(not is_part(parsed, _source_value(text), is_marker))}


@cache
def _source_value(text: str) -> Any:
    return json.loads(text)


def is_part(shown: Any, source: Any, is_marker: IsMarker) -> bool:
    """Whether a JSON value is another one with elements or members left out, markers aside.

    A marker is a string, or a member whose value or name is one.
    """
    if isinstance(shown, str) and is_marker(shown):
        return True
    if isinstance(shown, dict) and isinstance(source, dict):
        return all(
            is_part(value, source[name], is_marker)
            if name in source
            else _is_note(value, is_marker)
            for name, value in shown.items()
        )
    if isinstance(shown, list) and isinstance(source, list):
        return _is_sublist(shown, source, is_marker)
    return bool(shown == source and type(shown) is type(source))


def _is_note(value: Any, is_marker: IsMarker) -> bool:
    return isinstance(value, str) and is_marker(value)


def _is_sublist(shown: Sequence[Any], source: Sequence[Any], is_marker: IsMarker) -> bool:
    left = iter(source)
    return all(
        _is_note(value, is_marker) or any(is_part(value, other, is_marker) for other in left)
        for value in shown
    )
