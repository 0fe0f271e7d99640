"""Text to index terms: words in any script, and English words without their endings."""

from __future__ import annotations

import re

_WORD = re.compile(r"[^\W_]+")
# Han, kana, Thai, Lao, Khmer, Myanmar: written without blanks between words
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+"
)


def words(text: str) -> list[str]:
    """The index terms of a text, case folded, in order.

    Words are runs of letters and digits; scripts without blanks between words are indexed by pairs
    of characters.
    """
    terms: list[str] = []
    for match in _WORD.finditer(text.casefold()):
        terms.extend(_terms(match.group()))
    return terms


def _terms(word: str) -> list[str]:
    if not _UNSPACED.search(word):
        return [word]
    terms, at = [], 0
    for run in _UNSPACED.finditer(word):
        terms += [word[at : run.start()]] if run.start() > at else []
        pairs = run.group()
        terms += [pairs[i : i + 2] for i in range(len(pairs) - 1)] or [pairs]
        at = run.end()
    return terms + ([word[at:]] if at < len(word) else [])


def stem(word: str) -> str:
    """A word without its commonest English endings, so that `acted` meets `acting`."""
    for ending in ("ies", "ing", "ed", "es", "s", "ly"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word
