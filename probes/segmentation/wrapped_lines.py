"""Which lines of a paragraph were only broken at a margin: what begins on one ends on the next.

The text of an HTML page keeps the line ends of its source, where tags and links that are gone made
lines of any length. So columns alone do not tell: a line of prose without a stop goes on where the
next line begins as only the inside of a sentence does, or where this one ends as no sentence can.
Code, keys, cells, verse and entries of lists are lines of their own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tamis.probes.segmentation.lines import markup_spans
from tamis.probes.segmentation.prose_lines import (
    bare_line,
    begins_inside,
    begins_with_code,
    count_words,
    ends_open,
    has_function_word,
    has_stop,
    is_code,
    is_prose,
    is_title,
)

_ITEM = re.compile(
    r"\s*(?:[-+*•‣▪◦·–]\s|\(?\d{1,3}[.)]\s|:\s|¶|[\w.-]{1,30}:\s|\d+(?:\.\d+)*\.?\s+[^\W\d_a-z])"
)
# what cannot begin a sentence, whatever stands before it
_GOES_ON = re.compile(
    r"(?:of|and|or|but|nor|than|which|that|whose|for|as|with|from)\s+\w|[.,;)](?:\s|$)"
)
_SHORT_CHARS, _LONG_CHARS, _COLUMNS = 25, 60, 160
_FULL_SHARE, _ALMOST_FULL_SHARE = 0.8, 0.5
_REACH = 4  # lines on either side that tell whether a paragraph is wrapped


def continued_lines(lines: Sequence[str]) -> list[bool]:
    """For each line of a paragraph, whether it goes on with the sentence of the line above.

    Args:
        lines: without trailing white space.
    """
    bare = [bare_line(line) for line in lines]
    ends, heads = [_last_cell(line) for line in bare], [_first_cell(line) for line in bare]
    votes = _wrapping_votes(ends, heads)
    found = [False] * len(lines)
    for i in range(1, len(lines)):
        if _may_go_on(ends[i - 1], heads[i], found[i - 1]):
            near = [*votes[max(0, i - _REACH) : i], *votes[i + 1 : i + 1 + _REACH]]
            if "|" in lines[i]:
                found[i] = has_function_word(heads[i]) and _is_inside(ends[i - 1], heads[i])
            elif len(bare[i - 1]) > _COLUMNS:
                found[i] = heads[i][:1].islower()
            else:
                found[i] = _is_inside(ends[i - 1], heads[i]) or _is_wrapped(bare, i, near)
    return found


def is_continued(line: str, below: str) -> bool:
    """Whether a title goes on with the line below it, in its sentence or in a link."""
    joined = f"{line}\n{below}"
    in_link = any(a <= len(line) < b for a, b in markup_spans(joined, 0, len(joined)))
    return in_link or (is_prose(bare_line(line)) and continued_lines([line, below])[1])


def _wrapping_votes(ends: Sequence[str], heads: Sequence[str]) -> list[int]:
    """For each line after prose without a stop: 1 if it begins inside a sentence, else -1."""
    votes = [0] * len(ends)
    for i in range(1, len(ends)):
        if heads[i] and is_prose(ends[i - 1]) and not has_stop(ends[i - 1]):
            votes[i] = 1 if begins_inside(heads[i]) else -1
    return votes


def _may_go_on(before: str, after: str, goes_on: bool) -> bool:
    """Whether two lines are prose that may be one sentence.

    Args:
        goes_on: whether the line before goes on with a sentence itself.
    """
    if not before or not after or has_stop(before) or _ITEM.match(after):
        return False
    prose = goes_on or (is_prose(before) and len(before) >= _SHORT_CHARS)
    opens = has_function_word(before) and not before[0].islower()
    prose = prose or (opens and count_words(after) > 2)
    prose = prose or _GOES_ON.match(after) is not None
    return prose and not is_code(before) and not is_code(after)


def _is_inside(before: str, after: str) -> bool:
    """Whether the break between two lines is one where no sentence can end or begin."""
    listed = before[-1] == "," and begins_with_code(after)
    return listed or begins_inside(after) or ends_open(before)


def _is_wrapped(lines: Sequence[str], i: int, near: Sequence[int]) -> bool:
    """Whether a line that begins with a capital goes on, by the width and by the lines around.

    Args:
        near: the votes of the breaks around.
    """
    before, after = lines[i - 1], lines[i]
    prose = before[-1] == "," or (is_prose(before) and (is_prose(after) or has_stop(after)))
    if not prose or is_title(before):
        return False
    word = after.lstrip()[:80].split(None, 1)[0]
    width = max(map(len, lines[max(0, i - 2) : i + 2]))
    share = _FULL_SHARE if min(near, default=0) < 0 or sum(near) < 2 else _ALMOST_FULL_SHARE
    full = len(before) + 1 + len(word) >= share * width
    return full and (sum(near) > 0 or len(before) >= _LONG_CHARS)


def _last_cell(line: str) -> str:
    """What follows the last `|` of a line, or the tab before its last column."""
    return line.rpartition("|")[2].rpartition("\t")[2].strip()


def _first_cell(line: str) -> str:
    """What stands before the first `|` of a line, or before the tab after its first column."""
    return line.partition("|")[0].strip().partition("\t")[0].strip()
