"""What is kept or dropped as one: a sentence, a block, a document, a word.

sentence  what methods score                              the units as they are
block     a paragraph, list, table, listing               scored by its sentences, kept by the best
document  a document, such as an example of a task  likewise
token     a word, a character of scripts without spaces   scored by methods that can read one

The probes were fitted on sentences alone. A block or a document has the score of its best sentence,
which stays a probability; a word is scored by attention alone.

Examples of a task, given as documents with the new input as the question and chosen whole, are the
selection half of FocusICL (arXiv 2408.13987, §3), where each example is read apart and the share of
attention that it gets decides. Departures: nothing inside an example is masked, so its answer stays
with it; outputs of several batches of examples are not merged, which takes a generator.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from tamis.compressors.method import Scorer
from tamis.compressors.registry import method_info, method_names
from tamis.compressors.rules import Granularity
from tamis.compressors.types import Scores
from tamis.probes.errors import BadInput
from tamis.probes.text import Passage, Unit

_FAMILY = {"list_item": "list", "table_header": "table", "table_row": "table"}
_BLANK_LINE = re.compile(r"\n\s*\n")
# ideographs, kana, hangul and Thai are written without spaces, or with few
_WORD = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]|\S")
_SPACED = re.compile(r"[^\s\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]+")


def check_granularity(granularity: str, scorer: Scorer, method: str) -> None:
    """Refuses a granularity whose units the method cannot score.

    Raises:
        BadInput: words, and the method scores sentences.
    """
    if granularity == "token" and not scorer.info.reads_words:
        readers = [name for name in method_names() if method_info(name).reads_words]
        raise BadInput(
            f"{method} scores sentences, not words; take granularity sentence, block or document, "
            f"or method {' or '.join(readers)}"
        )


def split_words(passages: Sequence[Passage], units: Sequence[Unit]) -> list[Unit]:
    """Splits each unit into words that cover it without gaps.

    A word has the white space after it. A table's header row stays whole: it is shown wherever one
    of the table's words is.
    """
    return [
        word
        for unit in units
        for word in (
            [unit]
            if unit.kind == "table_header"
            else _split_unit(passages[unit.passage].text, unit)
        )
    ]


def _split_unit(text: str, unit: Unit) -> Iterator[Unit]:
    first, last = unit.visible
    spans = list(_word_spans(text, first, last))
    edges = [unit.start, *(start for start, _ in spans[1:]), unit.stop]
    for visible, (start, stop) in zip(spans, pairwise(edges), strict=True):
        yield replace(unit, start=start, stop=stop, visible=visible)


def _word_spans(text: str, at: int, stop: int) -> Iterator[tuple[int, int]]:
    while match := _WORD.search(text, at, stop):
        long = _SPACED.match(text, match.start(), stop)
        at = long.end() if long else match.end()
        yield match.start(), at


def merge_units(
    granularity: Granularity, passages: Sequence[Passage], units: Sequence[Unit], scores: Scores
) -> tuple[list[Unit], Scores]:
    """The units joined to blocks or documents, each with the best score among its own.

    A document is prose, whatever it begins with: a heading would be kept for what follows it.
    """
    whole = granularity == "document"
    merged, values = [], []
    for start, stop in _passage_runs(units) if whole else _block_runs(passages, units):
        first, last = units[start], units[stop - 1]
        kind = "sentence" if whole else first.kind
        visible = first.visible[0], last.visible[1]
        merged.append(replace(first, stop=last.stop, visible=visible, kind=kind))
        values.append(max(scores.values[start:stop]))
    return merged, replace(scores, values=tuple(values))


def _passage_runs(units: Sequence[Unit]) -> Iterator[tuple[int, int]]:
    """Half-open runs of units of one passage."""
    edges = [u for u in range(1, len(units)) if units[u - 1].passage != units[u].passage]
    return pairwise(sorted({0, *edges, len(units)}))


def _block_runs(passages: Sequence[Passage], units: Sequence[Unit]) -> Iterator[tuple[int, int]]:
    """Half-open runs of units that make one block."""
    start = 0
    for u in range(1, len(units) + 1):
        if u == len(units) or _begins_block(passages, units[u - 1], units[u]):
            yield start, u
            start = u


def _begins_block(passages: Sequence[Passage], before: Unit, after: Unit) -> bool:
    """Whether a new block begins: another passage or kind, or a blank line of prose or list."""
    if before.passage != after.passage:
        return True
    here, there = (_FAMILY.get(unit.kind, unit.kind) for unit in (before, after))
    gap = passages[after.passage].text[before.visible[1] : after.visible[0]]
    return here != there or after.kind == "table_header" or bool(_BLANK_LINE.search(gap))
