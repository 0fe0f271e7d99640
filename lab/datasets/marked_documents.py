"""Documents with questions and marked lines, as `tamis lab bench real` asks them, as records.

A row has a document and its questions; it becomes a record a question, whose sentences are the
units that tamis finds, and whose gold are those in marked lines or with a text that the answer
needs. All records of a repository share a group, so that a fit is judged on others, and all
English ones of a format a domain, since a fit weighs and scales domains apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

from tamis.text.types import Passage
from tamis.text.units.segment import units_of

Span = tuple[int, int]

OTHER_LANGUAGES = "documents in other languages"
"""The domain of all marked documents that are not in English."""


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
    sents = [unit.visible for unit in units_of([Passage(text)], language)]
    starts = [0, *accumulate(len(line) + 1 for line in text.split("\n"))]
    for place, one in enumerate(row["questions"]):
        marked = [(starts[first - 1], starts[last]) for first, last in one["gold"]]
        needed = _needed_spans(text, one["must"])
        gold = [
            i
            for i, sent in enumerate(sents)
            if any(share_half(sent, span) for span in marked)
            or any(sent[0] < stop and start < sent[1] for start, stop in needed)
        ]
        yield {
            "id": f"{row['id']}/{place}",
            "group": row["source"]["repo"],
            "domain": f"{row['format']} documents" if language == "en" else OTHER_LANGUAGES,
            "question": one["q"],
            "answerable": one["answerable"],
            "lang": language,
            "docs": [{"text": text, "sents": [list(span) for span in sents], "gold": gold}],
        }


def ways_of(must: Sequence[str | Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    """For each text that an answer needs, the ways it may be written."""
    return tuple((ways,) if isinstance(ways, str) else tuple(ways) for ways in must)


def share_half(one: Sequence[int], other: Sequence[int]) -> bool:
    """Whether at least half of the shorter of two spans is in both."""
    shorter = min(one[1] - one[0], other[1] - other[0])
    return 2 * (min(one[1], other[1]) - max(one[0], other[0])) >= max(1, shorter)


def _needed_spans(text: str, must: Sequence[str | Sequence[str]]) -> list[Span]:
    """Where each text that an answer needs stands first, by the first of its ways that does."""
    found = [next((way for way in ways if way in text), "") for ways in ways_of(must)]
    return [(at := text.index(way), at + len(way)) for way in found if way]
