"""The rule for whether a unit stops in mid-sentence, for tests and benchmarks.

It looks at the two sides of the cut alone, and knows nothing of how the cut was made:

    link or code   the cut is inside a Markdown link, its target or its title, or inline code
    abbreviation   what is kept ends with one that something follows: e.g., Dr.
    open word      it has three words or more and ends with one that ends no sentence: the, of, and
    lower case     it is prose without a stop, and what follows on the same or the next line is in
                   lower case and no code

A blank line, the end of the text, a mark of a list, a cell or another kind of block ends whatever
stands before it. Text without a stop before a capital is not judged: `Debian`, a title, a cell.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tamis.probes.segmentation.lines import markup_spans
from tamis.probes.segmentation.prose_lines import (
    bare_line,
    count_words,
    ends_open,
    ends_with_abbreviation,
    has_function_word,
    has_stop,
    is_code,
)
from tamis.probes.text import Piece, Unit

_PROSE = ("sentence", "list_item", "entry", "html", "heading")
_GAP = re.compile(r"[^\S\n]*\n?[^\S\n]*")
_ITEM = re.compile(r"(?:[-+*•‣▪◦·–|:>]|\(?\d{1,3}[.)]|[\w.-]{1,30}:)\s|[|¶]")
_REACH = 700
_FEW_WORDS = 3


def stops_mid_sentence(text: str, pieces: Sequence[Piece | Unit], place: int) -> bool:
    """Whether the piece at a place of a segmented text stops in mid-sentence."""
    if place + 1 == len(pieces) or pieces[place].kind not in _PROSE:
        return False
    start, stop = pieces[place].visible
    if pieces[place + 1].kind in ("code", "table_header", "table_row"):
        return False
    return _is_inside_markup(text, stop) or _is_unfinished(text, start, stop)


def _is_inside_markup(text: str, stop: int) -> bool:
    """Whether an offset is inside a link or inline code of its paragraph."""
    first = text.rfind("\n\n", max(0, stop - _REACH), stop) + 2
    first = max(first, stop - _REACH) if first > 1 else max(0, stop - _REACH)
    last = text.find("\n\n", stop, stop + _REACH)
    last = min(len(text), stop + _REACH) if last < 0 else last
    return any(
        a < stop < b and text[stop:b].strip() != "" for a, b in markup_spans(text, first, last)
    )


def _is_unfinished(text: str, start: int, stop: int) -> bool:
    """Whether the text from start to stop goes on after it, by its last word or the next."""
    gap = _GAP.match(text, stop)
    after = text[gap.end() if gap else stop :][:200].partition("\n")[0]
    if not after.strip() or _ITEM.match(after) or is_code(bare_line(after)):
        return False
    line = text[max(start, stop - _REACH) : stop].rpartition("\n")[2]
    before = bare_line(line).rpartition("|")[2].strip()
    if ends_with_abbreviation(before):
        return True
    unit = bare_line(text[start:stop][-_REACH:])
    if has_stop(before) or is_code(before) or count_words(unit) < _FEW_WORDS:
        return False
    return ends_open(before) or (after[:1].islower() and has_function_word(f"{unit} {after}"))
