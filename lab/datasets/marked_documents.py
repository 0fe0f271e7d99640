"""Documents with questions and marked lines, as `tamis lab bench real` asks them, as records.

A row has a document and its questions; it becomes a record a question, whose sentences are the
units that tamis finds, and whose gold are those in marked lines or with a text that the answer
needs. All records of a repository share a group, so that a fit is judged on others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

from tamis.text.types import Passage
from tamis.text.units.segment import units_of

Span = tuple[int, int]


def is_marked_document(row: dict[str, Any]) -> bool:
    """Whether a row is a document with questions, not a question with documents."""
    return "questions" in row and "docs" not in row


def records_of(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A record for each question on a document; none for HTML, whose lines are not its text's.

    Raises:
        KeyError, TypeError, IndexError: the row is none of a marked document.
    """
    if row["format"] == "html":
        return
    text, language = row["text"], row.get("lang", "en")
    visible = [unit.visible for unit in units_of([Passage(text)], language)]
    sents = [span for span in visible if text[slice(*span)].strip()]
    starts = [0, *accumulate(len(line) + 1 for line in text.split("\n"))]
    for place, one in enumerate(row["questions"]):
        marked = [(starts[first - 1], starts[last]) for first, last in one["gold"]]
        gold = sorted(_inside(sents, marked) | _touched(sents, _needed(text, one["must"])))
        yield {
            "id": f"{row['id']}/{place}",
            "group": row["source"]["repo"],
            "question": one["q"],
            "answerable": one["answerable"],
            "lang": language,
            "docs": [{"text": text, "sents": [list(span) for span in sents], "gold": gold}],
        }


def _needed(text: str, must: Sequence[str | Sequence[str]]) -> list[Span]:
    """Where each text that an answer needs stands first, or the first of its ways that does."""
    ways = [[way] if isinstance(way, str) else way for way in must]
    found = [next((way for way in those if way in text), "") for those in ways]
    return [(at := text.index(way), at + len(way)) for way in found if way]


def _touched(sents: Sequence[Span], spans: Sequence[Span]) -> set[int]:
    return {i for i, (a, b) in enumerate(sents) for start, stop in spans if a < stop and start < b}


def _inside(sents: Sequence[Span], spans: Sequence[Span]) -> set[int]:
    """The sentences of which at least half is in a span, or that hold half of one."""
    return {
        i
        for i, (a, b) in enumerate(sents)
        for start, stop in spans
        if 2 * (min(b, stop) - max(a, start)) >= max(1, min(b - a, stop - start))
    }
