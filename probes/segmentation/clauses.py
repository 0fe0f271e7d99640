"""Clauses of scripts that end no sentence with a full stop, or write without spaces.

Thai and Lao put a space between clauses and a full stop only after abbreviations; Khmer and Burmese
have stops of their own and often leave them out. A paragraph of these would be one unit. It is cut
at spaces, as near to `CLAUSE_CHARS` as they allow. Chinese and Japanese without stops are cut at
commas and spaces, else where a particle in hiragana ends, else anywhere between two characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

CLAUSE_CHARS = 60
"""Visible characters from which on a clause of Thai and its kin ends at the next space."""
LONG_CJK_CHARS = 240
"""A sentence of Chinese or Japanese from this length on is cut into clauses."""
_CJK_CLAUSE_CHARS = 80

_LETTER = re.compile(r"[^\W\d_]")
_SOUTHEAST = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")
_HAN_OR_KANA = re.compile("[\u3040-\u30ff\u3400-\u9fff]")
_SPACE = re.compile(r"\s+")
# what follows the space belongs to what stands before it: a number, a bracket, a sign of repetition
_GOES_ON = re.compile("[\\d๐-๙໐-໙()\\[\\]%.,:/–-]|\u0e46|\u0ec6|ฯ")
_COMMA = re.compile("[，、；：,;:」』）)]|\\s")
_PARTICLE_END = re.compile("[\u3041-\u309f](?=[\u30a1-\u30fa\u4e00-\u9fff])")


def is_southeast_asian(text: str) -> bool:
    """Whether most letters of a text are Thai, Lao, Khmer or Burmese."""
    return 2 * len(_SOUTHEAST.findall(text)) > len(_LETTER.findall(text)) > 0


def clause_starts(text: str, start: int, stop: int) -> Iterator[int]:
    """Starts of the clauses in one sentence `[start, stop)` after the first, ascending.

    None where the sentence is short, or in a script whose sentences end with a full stop.
    """
    sentence = text[start:stop]
    if len(sentence) > CLAUSE_CHARS and is_southeast_asian(sentence):
        yield from _cut_at_spaces(text, start, stop)
    elif len(sentence) > LONG_CJK_CHARS and _is_cjk(sentence):
        yield from _cut_cjk(text, start, stop)


def _is_cjk(text: str) -> bool:
    return 2 * len(_HAN_OR_KANA.findall(text)) > len(text)


def _cut_at_spaces(text: str, start: int, stop: int) -> Iterator[int]:
    clause = start
    for space in _SPACE.finditer(text, start, stop):
        is_long = space.start() - clause >= CLAUSE_CHARS
        rest = stop - space.end()
        if is_long and rest >= CLAUSE_CHARS // 3 and not _GOES_ON.match(text, space.end(), stop):
            yield space.end()
            clause = space.end()


def _cut_cjk(text: str, start: int, stop: int) -> Iterator[int]:
    clause = start
    while stop - clause > LONG_CJK_CHARS:
        first, last = clause + _CJK_CLAUSE_CHARS, clause + LONG_CJK_CHARS
        match = _COMMA.search(text, first, last) or _PARTICLE_END.search(text, first, last)
        clause = match.end() if match else _before_marks(text, first, last)
        if text[clause:stop].isspace():
            return
        yield clause


def _before_marks(text: str, start: int, at: int) -> int:
    """The last offset up to `at` that does not part a character from the marks on it."""
    while at > start and unicodedata.category(text[at])[0] == "M":
        at -= 1
    return at
