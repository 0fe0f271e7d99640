"""Guessing the language of a text, as far as choosing a proxy and finding sentences needs it.

Letters determine the script; for Latin script, the most frequent function words determine the
language. There is no model and no n-gram table: a language in no list is treated as English, and so
is what is hardly language: a log, code, a table.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from tamis.probes.errors import BadInput
from tamis.probes.lru import LruCache

AUTO = "auto"
"""Given instead of a language code: guess from the text."""
DEFAULT_LANGUAGE = "en"
LANGUAGE_CODE = re.compile(rf"{AUTO}|[A-Za-z]{{2,3}}(?:[-_][A-Za-z0-9]{{1,8}}){{0,3}}")
"""A language of ISO 639 in two or three letters, and what may follow it; or `auto`."""
MAX_SAMPLED_PASSAGES = 16
"""The most passages that are examined, evenly spread."""
MAX_SAMPLED_CHARS = 16_000
"""The most characters that are examined, of all passages together."""

# weights: a Han character is about half a word, a Latin letter a fifth of one; and code, names and
# addresses are in Latin letters whatever the language around them
_SCRIPTS = {
    "latin": (re.compile("[A-Za-z\u00c0-\u024f\u1e00-\u1eff]"), 1),
    "han": (re.compile("[\u3400-\u9fff\uf900-\ufaff]"), 6),
    "kana": (re.compile("[\u3041-\u30ff]"), 6),
    "hangul": (re.compile("[\uac00-\ud7af]"), 4),
    "thai": (re.compile("[\u0e01-\u0e4e]"), 2),
    "cyrillic": (re.compile("[\u0400-\u04ff]"), 2),
    "greek": (re.compile("[\u0386-\u03ff]"), 2),
    "arabic": (re.compile("[\u0620-\u06d3]"), 2),
    "hebrew": (re.compile("[\u05d0-\u05ea]"), 2),
    "devanagari": (re.compile("[\u0900-\u097f]"), 2),
}
_LANGUAGE_OF = {
    "han": "zh",
    "kana": "ja",
    "hangul": "ko",
    "thai": "th",
    "cyrillic": "ru",  # or Ukrainian, recognised by its own letters
    "greek": "el",
    "arabic": "ar",
    "hebrew": "he",
    "devanagari": "hi",
}
# the most frequent function words, without those that are words of a related language or of code
_FUNCTION_WORDS = {
    "en": "the of and to is was with that for are from by which this what how who it or be",
    "de": "der die das und ist von den dem ein eine zu mit nicht auf für wird wie sich welche wer",
    "es": "el los las una del que por con para es fue como más se su cuál qué en y al cómo quién",
    "fr": "le les des une est du et dans pour qui que sur par avec ce au sont quel quelle il",
    "pt": "o os uma do dos das que em para com não é foi mais ao pelo um são qual como",
    "it": "il gli della di che è per una del sono nel alla più dei le quale come chi dal",
    "nl": "het een van dat niet op met voor zijn wordt aan door ook bij werd naar uit welke wie",
    "sv": "och att det som är på av för till har inte ett från kan ska vid blev vilka vilken",
    "pl": "w na nie się z jest że jak przez od są być jego oraz który która gdzie czy",
    "tr": "ve bir bu için ile olarak olan daha gibi çok ne değil kadar sonra hangi nedir",
    "vi": "của và là các có được trong cho không một những với người này đã khi từ như năm",
}
_FUNCTION_WORD_SETS = {code: frozenset(line.split()) for code, line in _FUNCTION_WORDS.items()}
_ALL_FUNCTION_WORDS = frozenset().union(*_FUNCTION_WORD_SETS.values())
"""Words that say little of what a text is about, in all of these languages."""
_counted: LruCache[tuple[int, dict[str, int]]] = LruCache(1 << 22)
"""What was counted in texts, since passages come again; 4 MB of texts and counts."""
_WORD = re.compile(r"(?<![^\s(\"'«¿¡])[^\W\d_]+(?![^\s,.;:!?)\"'»…]|[.:]\S)")
"""A word that stands alone: not the `os` of `os.path`, nor the `com` of `com.shop`."""
_FEW_WORDS = 30
_LEAST_DIFFERENT = 3
_LEAST_SHARE = 0.04
"""Prose has 10 % of such words and more, in the languages with endings for them 6 %."""
_UKRAINIAN = re.compile("[іїєґ]")


def resolve_language(language: str, question: str, texts: Sequence[str]) -> str:
    """The given code, or for `auto` the guessed language of question and texts.

    Raises:
        BadInput: `language` is neither a code nor `auto`.
    """
    return guess_language(question, texts) if check_language(language) == AUTO else language


def check_language(language: Any) -> str:
    """Returns a language code or `auto` unchanged.

    Raises:
        BadInput: it is neither.
    """
    if not isinstance(language, str) or not LANGUAGE_CODE.fullmatch(language):
        raise BadInput(
            f"language is {language!r}; give its code of two or three letters, such as en or "
            f"zh-hant, or {AUTO}"
        )
    return language


def guess_language(question: str, texts: Sequence[str]) -> str:
    """Guesses the language of a question and its passages; the passages dominate, being longer.

    Examines at most `MAX_SAMPLED_PASSAGES` passages and `MAX_SAMPLED_CHARS` characters, which takes
    a millisecond or two however much text there is.
    """
    passages = list(_sample(texts))
    max_chars = MAX_SAMPLED_CHARS // (len(passages) + 1)
    samples = [text[:max_chars] for text in (question, *passages)]
    script = _main_script(samples)
    if script == "latin":
        return _latin_language(samples)
    if script == "cyrillic" and any(_UKRAINIAN.search(text) for text in samples):
        return "uk"
    return _LANGUAGE_OF[script]


def is_latin(question: str, texts: Sequence[str]) -> bool:
    """Whether a question, and the passages as far as they are examined, are in Latin letters."""
    passages = [text[: MAX_SAMPLED_CHARS // MAX_SAMPLED_PASSAGES] for text in _sample(texts)]
    return _main_script([question]) == "latin" == _main_script(passages)


def primary_subtag(language: str) -> str:
    """The primary subtag of a code, without region or script: `zh` for `zh-hant`."""
    return language.replace("_", "-").partition("-")[0].lower()


def _sample(texts: Sequence[str]) -> Iterator[str]:
    return islice(iter(texts[:: max(1, len(texts) // MAX_SAMPLED_PASSAGES)]), MAX_SAMPLED_PASSAGES)


def _main_script(texts: Sequence[str]) -> str:
    """The script of most words; Han characters with kana count as Japanese."""
    if all(text.isascii() for text in texts):
        return "latin"
    joined = "".join(texts)
    counts = {
        name: weight * len(letters.findall(joined)) for name, (letters, weight) in _SCRIPTS.items()
    }
    if counts["kana"] * 10 > counts["han"]:
        counts["kana"] += counts.pop("han")
    return max(counts, key=counts.__getitem__)


def _latin_language(texts: Sequence[str]) -> str:
    """The language with the most function words; English unless another has more.

    A log or code has a few of one language by chance (`os`, `do`, `die`): another language than
    English needs several different ones, and a share of all words that prose has.
    """
    total, counts = 0, Counter[str]()
    for text in texts:
        words, of_function = _count_words(text)
        total += words
        counts.update(of_function)
    hits = {
        code: sum(counts[word] for word in words) for code, words in _FUNCTION_WORD_SETS.items()
    }
    best = max(hits, key=hits.__getitem__)
    if hits[best] <= hits[DEFAULT_LANGUAGE] or not _is_prose(total, counts, hits[best], best):
        return DEFAULT_LANGUAGE
    return best


def _count_words(text: str) -> tuple[int, dict[str, int]]:
    """The number of words of a text, and how often each function word of any language is in it."""
    return _counted.get(text, lambda: _count(text), lambda found: len(text) + 100 * len(found[1]))


def _count(text: str) -> tuple[int, dict[str, int]]:
    words = _WORD.findall(text.lower())
    counts = Counter(word for word in words if word in _ALL_FUNCTION_WORDS)
    return len(words), dict(counts)


def _is_prose(total: int, counts: Counter[str], hits: int, code: str) -> bool:
    """Whether a text that is not short has as many function words of a language as its prose.

    Args:
        total: the number of its words. counts: of its function words. hits: those of the language.
    """
    if total < _FEW_WORDS:
        return True
    different = sum(word in counts for word in _FUNCTION_WORD_SETS[code])
    return different >= _LEAST_DIFFERENT and hits >= _LEAST_SHARE * total
