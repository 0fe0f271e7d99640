"""The verdict on a context: whether it holds an answer, as far as answerability was calibrated.

A probe's card has two floors of answerability. They were chosen on contexts whose answer was taken
out, whole domains apart: lab/log/coverage.md#2026-11-29-a-verdict-on-every-context.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tamis.compressors.features.second_step import RequestTexts
from tamis.compressors.features.words import Lexicon
from tamis.probes.hub import zoo
from tamis.probes.probing.linear import LinearProbe
from tamis.probes.segmentation.language import DEFAULT_LANGUAGE, guess_language
from tamis.probes.segmentation.terms import cached_words, stem

FLOORS = "answerable_floors"
"""Where a probe's card has the answerabilities from which on a context is `partly` answerable, and
from which on it is `answerable`."""
_SHOWN_WORDS = 5
_USUAL_SHARE = 0.4
"""The share of a question's words that are in no document at which the floor is as calibrated."""
_MIN_WORD = 4
_SAMPLED_TEXTS, _SAMPLED_CHARS = 16, 1000
_FRAME = frozenset(
    "about does from have into long many much often should that their them there they this were "
    "what when where which whom whose will with would your".split()
)
"""English words of four letters and more that a question has whatever it asks."""
_COMMON_WORDS = "de:und en:the es:los fr:les it:gli nl:het pl:jest pt:uma sv:och tr:için vi:của"
_COMMON_WORD = dict(pair.split(":") for pair in _COMMON_WORDS.split())
"""A frequent word of each language in Latin script that `guess_language` tells apart."""


def judge(
    probe: LinearProbe,
    answerability: float | None,
    texts: RequestTexts,
    languages: tuple[str, str] | None,
) -> dict[str, Any]:
    """The fields `verdict`, `floor` and `reason` of `Scores`, by a probe's calibration.

    Args:
        languages: those of the question and the documents, where they differ: then there is no
            verdict.
    """
    seen = "the probe was not fitted to tell"
    if answerability is not None:
        seen = f"answerability is {answerability:.2f}"
    floors = probe.card.figures.get(FLOORS)
    if answerability is None or floors is None:
        return {"reason": f"{seen}, and no floor was calibrated for this probe"}
    missing = absent_words(texts.question, texts.lexicon)
    low, high = _shifted(floors["partly"], texts.question, missing), floors["answerable"]
    if languages is not None:
        return {"floor": low, "reason": f"{seen}, but the question is in another language"}
    if answerability >= high:
        return {"verdict": "answerable", "floor": low, "reason": f"{seen}, at least {high:g}"}
    is_low = answerability < low
    seen += f", below {low:.2g}" if is_low else f", between {low:.2g} and {high:g}"
    if missing:
        seen += f"; in no document: {', '.join(map(repr, missing[:_SHOWN_WORDS]))}"
    return {"verdict": "unanswerable" if is_low else "partly", "floor": low, "reason": seen}


def _shifted(floor: float, question: str, missing: Sequence[str]) -> float:
    """The floor of a probability, moved in log odds by the share of the question's words that are
    in no document: down where all are there, up where few are."""
    words = _content_words(question)
    share = len(missing) / len(words) if words else _USUAL_SHARE
    return 1 / (1 + (1 / floor - 1) * math.exp(_USUAL_SHARE - share))


def _content_words(question: str) -> list[str]:
    return [
        word
        for word in dict.fromkeys(cached_words(question))
        if len(word) >= _MIN_WORD and word not in _FRAME
    ]


def absent_words(question: str, lexicon: Lexicon) -> list[str]:
    """The question's words, as its terms, that no unit and no title has; short ones left out."""
    known = frozenset().union(*lexicon.titled)
    return [word for word in _content_words(question) if stem(word) not in known]


def languages_apart(model: str, question: str, texts: Sequence[str]) -> tuple[str, str] | None:
    """The languages of a question and of passages, where both are plain and no passage has that of
    the question; else None.

    A language is told by its script, or by function words: more than one of them, since a name or
    a title may have one. None, too, for a model of many languages, or of unknown ones.
    """
    if model not in zoo.ZOO or zoo.ZOO[model].is_multilingual:
        return None
    sample = [text[:_SAMPLED_CHARS] for text in texts[:: max(1, len(texts) // _SAMPLED_TEXTS)]]
    documents = "\n".join(sample)
    asked, read = guess_language(question, ()), guess_language(documents, ())
    if asked == read or asked in {guess_language(text, ()) for text in sample if text.strip()}:
        return None
    plain = _is_plain(question, asked, read) and _is_plain(documents, read, asked)
    return (asked, read) if plain else None


def _is_plain(text: str, language: str, other: str) -> bool:
    """Whether a word of another language, or two beside English, leave the guess as it is.

    English is also the guess where nothing is known, and where languages are level.
    """
    if language == DEFAULT_LANGUAGE:
        word = _COMMON_WORD.get(other, _COMMON_WORD["de"])
        return guess_language(f"{text} {word} {word}", ()) == language
    words = {_COMMON_WORD.get(other, ""), _COMMON_WORD[DEFAULT_LANGUAGE]}
    return all(guess_language(f"{text} {word}", ()) == language for word in words)


def language_warning(model: str, asked: str, read: str) -> str:
    """The warning of a question in another language than the documents."""
    return (
        f"the question seems to be in {asked!r} and the documents in {read!r}: {model} reads "
        "English and does not carry a question over, so what it finds shares names and words with "
        f"the question at best; ask in {read!r}"
    )
