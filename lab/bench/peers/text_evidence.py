"""Evidence in a kept text, so that peers that keep sentences and peers that delete words compare.

A gold sentence of n words is found when the longest common subsequence with some window of
1.5 n + 2 consecutive words of the kept text has nine tenths of its words. Words are runs of letters
and digits, case-folded; each Han, kana or Thai character is one word.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

MIN_FOUND_SHARE = 0.9
_SINGLE_CHARACTER_WORDS = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_SINGLE_CHARACTER_WORDS}]|[^\W_{_SINGLE_CHARACTER_WORDS}]+")


def words_of(text: str) -> list[str]:
    """The words of a text, case-folded."""
    return [word.casefold() for word in _WORD.findall(text)]


def share_found(gold: Sequence[str], kept: Sequence[str]) -> float:
    """The largest share of a sentence's words that one window has in the same order: 0 to 1."""
    if not gold:
        return 1.0
    size = math.ceil(1.5 * len(gold) + 2)
    best = 0
    for start in range(max(1, len(kept) - size + 1)):
        best = max(best, common_subsequence_length(gold, kept[start : start + size]))
        if best == len(gold):
            break
    return best / len(gold)


def common_subsequence_length(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence, with a row of its table in the bits of one number.

    Source: Crochemore, Iliopoulos, Pinzon, Reid, "A fast and practical bit-vector algorithm for the
    longest common subsequence problem", 2001.
    """
    positions: dict[str, int] = {}
    for i, word in enumerate(a):
        positions[word] = positions.get(word, 0) | 1 << i
    full = (1 << len(a)) - 1
    row = full
    for word in b:
        hit = row & positions.get(word, 0)
        row = ((row + hit) | (row - hit)) & full
    return len(a) - row.bit_count()


def fold_text(text: str) -> str:
    """The text, case-folded, with every run of white space as one space."""
    return " ".join(text.casefold().split())


def find_evidence(
    kept: str, gold: Sequence[str], answers: Sequence[str], context: str
) -> dict[str, Any]:
    """The gold sentences and answers that a kept text has.

    Returns:
        evidence: share of gold sentences found. all: whether every one is. words: mean share of
        their words. answer: whether the text has an answer; None where the context has none.
    """
    words = words_of(kept)
    shares = [share_found(words_of(sentence), words) for sentence in gold]
    found = [share >= MIN_FOUND_SHARE for share in shares]
    folded_context, folded_kept = fold_text(context), fold_text(kept)
    possible = [s for answer in answers if (s := fold_text(answer)) and s in folded_context]
    return {
        "evidence": sum(found) / len(found),
        "all": all(found),
        "words": sum(shares) / len(shares),
        "answer": any(answer in folded_kept for answer in possible) if possible else None,
    }
