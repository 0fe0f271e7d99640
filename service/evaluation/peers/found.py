"""Evidence in kept text alone: peers that keep sentences and peers that delete words compare.

A gold sentence of n words is found when nine tenths of them stand, in order, within some window of
1.5 n + 2 consecutive words of the kept text: the longest common subsequence. Words are runs of
letters and digits, case folded; a Han, kana or Thai character is a word of its own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

FOUND_SHARE = 0.9
_ALONE = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_ALONE}]|[^\W_{_ALONE}]+")


def words_of(text: str) -> list[str]:
    """The words of a text, case folded."""
    return [word.casefold() for word in _WORD.findall(text)]


def share_found(gold: Sequence[str], kept: Sequence[str]) -> float:
    """The largest share of a sentence's words that stands, in order, in one window: 0 to 1."""
    if not gold:
        return 1.0
    size = math.ceil(1.5 * len(gold) + 2)
    best = 0
    for start in range(max(1, len(kept) - size + 1)):
        best = max(best, common(gold, kept[start : start + size]))
        if best == len(gold):
            break
    return best / len(gold)


def common(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence, a row of the table in the bits of one number.

    Source: Crochemore, Iliopoulos, Pinzon, Reid, "A fast and practical bit-vector algorithm for the
    longest common subsequence problem", 2001.
    """
    places: dict[str, int] = {}
    for i, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << i
    full = (1 << len(a)) - 1
    row = full
    for word in b:
        hit = row & places.get(word, 0)
        row = ((row + hit) | (row - hit)) & full
    return len(a) - row.bit_count()


def squeezed(text: str) -> str:
    """Case folded, every run of white space one blank."""
    return " ".join(text.casefold().split())


def judged(kept: str, gold: Sequence[str], answers: Sequence[str], context: str) -> dict[str, Any]:
    """What a kept text holds.

    Returns:
        evidence: share of gold sentences found. all: whether every one is. words: mean share of
        their words. answer: whether an answer stands in it; None where none is in the context.
    """
    words = words_of(kept)
    shares = [share_found(words_of(sentence), words) for sentence in gold]
    found = [share >= FOUND_SHARE for share in shares]
    whole, text = squeezed(context), squeezed(kept)
    wanted = [s for answer in answers if (s := squeezed(answer)) and s in whole]
    return {
        "evidence": sum(found) / len(found),
        "all": all(found),
        "words": sum(shares) / len(shares),
        "answer": any(answer in text for answer in wanted) if wanted else None,
    }
