"""Index terms of a text: words in any script, and stems of English words."""

from __future__ import annotations

import re
import sys
import unicodedata
from functools import cache, lru_cache
from itertools import groupby

from tamis.probes.interruption import check_interruption
from tamis.probes.lru import LruCache

_WORD = re.compile(r"[^\W_]+")
# Han, kana, Thai, Lao, Khmer, Myanmar: written without spaces between words
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+"
)
# Latin letters below need none; Greek, punctuation and Han have no marks either
_NEEDS_NORMALISING = re.compile(
    "[\u0300-\u036f\u0400-\u1fff\u20d0-\u20ff\u2c00-\u33ff\ua000-\U0010ffff]"
)
# points and vowel signs of Hebrew and Arabic, stress in Cyrillic: most texts omit them
_UNWRITTEN = re.compile(
    "[\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u064b-\u0652\u0670]"
    "|(?<=[\u0400-\u04ff])[\u0300\u0301]"
)
_WORDS_BETWEEN_CHECKS = 4096
_SHORT_CHARS = 1 << 16
"""Words of shorter texts are found too fast for an interruption in between."""
_PIECE_CHARS = 256
_CACHED_BYTES = 1 << 25
_TEXT_BYTES, _TERM_BYTES = 200, 48  # of an entry, and of a term in it, beside the text
_CACHED_STEMS = 1 << 15
_CACHED_STEM_CHARS = 64
_cached: LruCache[tuple[str, ...]] = LruCache(_CACHED_BYTES)
_SELECTORS = (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))


def words(text: str) -> list[str]:
    """The index terms of a text, case folded, in order.

    Words are runs of letters and digits with their marks (vowel signs, accents), in any Unicode
    normalisation; scripts without spaces between words are indexed by pairs of characters.
    """
    folded, word = text.casefold(), _WORD
    if len(folded) <= _SHORT_CHARS and folded.isascii():
        return word.findall(folded)
    if not folded.isascii() and _NEEDS_NORMALISING.search(folded):
        # case folding turns a dotted capital I into i and a combining dot
        folded = _compose(folded).replace("i\u0307", "i")
        folded, word = _UNWRITTEN.sub("", folded), _marked_word_pattern()
    terms: list[str] = []
    for number, match in enumerate(word.finditer(folded)):
        if number % _WORDS_BETWEEN_CHECKS == 0:
            check_interruption()
        terms.extend(_terms(match.group()))
    return terms


def cached_words(text: str) -> tuple[str, ...]:
    """`words` of a text that is asked for several times in a request, and comes again in others."""
    check_interruption()
    return _cached.get(
        text,
        lambda: tuple(map(sys.intern, words(text))),
        lambda terms: _TEXT_BYTES + len(text) + _TERM_BYTES * len(terms),
    )


def _compose(text: str) -> str:
    """The text in Unicode's normalisation form C, in pieces that end where a character does.

    Sorting a run of marks takes time quadratic in its length; no character has more than 30 (UAX
    15, stream-safe text), and a run longer than a piece is cut.
    """
    pieces = []
    at = 0
    while at < len(text):
        check_interruption()
        stop = min(at + _PIECE_CHARS, len(text))
        cut = stop
        while at < cut < len(text) and unicodedata.combining(text[cut]):
            cut -= 1
        stop = cut if cut > at else stop
        pieces.append(unicodedata.normalize("NFC", text[at:stop]))
        at = stop
    return "".join(pieces)


@cache
def _marked_word_pattern() -> re.Pattern[str]:
    """A pattern for words with marks, for which `re` has no class; building it takes 20 ms."""
    ranges = ((0x300, 0x20000), (0xE0100, 0xE01F0))
    marks = [
        code
        for first, stop in ranges
        for code in range(first, stop)
        if unicodedata.category(chr(code)) in ("Mn", "Mc") and code not in _SELECTORS
    ]
    runs = [
        [code for _, code in run]
        for _, run in groupby(enumerate(marks), lambda place: place[1] - place[0])
    ]
    mark = "".join(f"{chr(run[0])}-{chr(run[-1])}" for run in runs)
    return re.compile(rf"[^\W_]+(?:[{mark}]+[^\W_]*)*")


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
    """A word without its most common English endings, so that `acted` matches `acting`."""
    return _cached_stem(word) if len(word) <= _CACHED_STEM_CHARS else _cut_ending(word)


def _cut_ending(word: str) -> str:
    for ending in ("ies", "ing", "ed", "es", "s", "ly"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


_cached_stem = lru_cache(_CACHED_STEMS)(_cut_ending)
