"""Scores of units by a probe, in two steps, and a verdict on the context; no model runs.

    first     heads, then words            [U, 2·L·H + len(WORD_FEATURES)]
    isolated  heads, then a unit's length  [U, 2·L·H + 1], of the unit's own window alone
    z         the score of the second step [U]

In the second step a unit is judged with what surrounds it and with the best units so far.

    first step ─┬─ own      its two scores, its words, its cosine by an encoder
                ├─ links    words and titles shared with the best units: the second hop
                └─ levels   neighbours, paragraph, section, lead-in, heading, passage: runs of steps

The first step has two scores, both of heads and words: one was fitted to tell the best unit of each
request, the other to tell single units apart, whatever the request. The second means the same in
every window and says more of evidence in many units.

Evidence is often a run of lines: the steps of a procedure share no word with the question, but
stand below a heading or after a sentence that does. A level says how well what surrounds a unit
scores, never how long the unit is: the score of a short step rises with its section's and does not
fall because it is short.

The best units of a request also tell whether its context holds an answer: `answerability`, of
which `judge` makes a verdict by two floors of the probe's card. They were chosen on contexts whose
answer was taken out, whole domains apart:
lab/log/coverage.md#2026-11-29-a-verdict-on-every-context.

How far links and levels are trusted is a gate's decision, which sees the request and no unit of it
(`probes/probing/gated.py`). The weights with an encoder are others, and begin with `encoder_`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tamis.compressors.features.scales import correlation, deviation, z_scores
from tamis.compressors.features.words import (
    HOP_FEATURES,
    WORD_FEATURES,
    Lexicon,
    group_maximum,
    hop_features,
    word_features,
)
from tamis.compressors.reading.windows import Reading
from tamis.probes.errors import BadModelFile
from tamis.probes.hub import zoo
from tamis.probes.probing.gated import GatedFeatures, gated_scores, is_unlike_fit
from tamis.probes.probing.linear import Calibration, LinearProbe
from tamis.text.inputs import read_before
from tamis.text.language import DEFAULT_LANGUAGE, guess_language
from tamis.text.terms import cached_words, stem
from tamis.text.types import KINDS, Passage, Unit

Indices = NDArray[np.int64]
Floats = NDArray[np.float64]

_NONE = -1


@dataclass(frozen=True, slots=True)
class Structure:
    """Where each of U units stands; all arrays are `[U]`.

    Attributes:
        passage: the index of its passage, ascending.
        paragraph: the number of its paragraph: units with no line break between them, and a number
            of its own for each listed unit. section: the number of its section, from one heading
            to the next.
        heading: the unit that is the heading above it, else -1. lead_in: the unit ending in a colon
            that introduces it, else -1.
        is_listed: whether it is a list item, a row, an entry, a line of code or a piece of JSON.
    """

    passage: Indices
    paragraph: Indices
    section: Indices
    heading: Indices
    lead_in: Indices
    is_listed: NDArray[np.bool_]


def unit_structure(passages: Sequence[Passage], units: Sequence[Unit]) -> Structure:
    """The structure of units, which are in text order, passage by passage."""
    rows = []
    paragraph = section = _NONE
    heading = lead_in = _NONE
    for u, unit in enumerate(units):
        text = passages[unit.passage].text
        before = units[u - 1] if u and units[u - 1].passage == unit.passage else None
        gap = text[before.visible[1] : unit.visible[0]] if before else ""
        visible = text[slice(*unit.visible)].rstrip()
        is_listed = KINDS[unit.kind].is_listed
        introduces = visible.endswith((":", "："))
        if before is None:
            heading = lead_in = _NONE
        paragraph += before is None or is_listed or "\n" in gap
        section += before is None or unit.kind == "heading"
        if not is_listed and (introduces or "\n\n" in gap):
            lead_in = _NONE
        rows.append((unit.passage, paragraph, section, heading, lead_in, is_listed))
        if unit.kind == "heading":
            heading = u
        if introduces:
            lead_in = u
    passage, paragraphs, sections, headings, lead_ins, listed = (
        np.array(rows, dtype=np.int64).reshape(len(rows), 6).T
    )
    return Structure(passage, paragraphs, sections, headings, lead_ins, listed.astype(bool))


_TOP_UNITS = 3
_MIN_PAIRS = 4


def level_features(structure: Structure, scores: Floats) -> Floats:
    """A score at each of eight levels: `[U, 8]`.

    Means over the units at most 2, 4 or 8 away, over the paragraph and the section; the scores of
    the lead-in and of the heading, or the first mean where there is none; the mean of the
    passage's best three.

    Args:
        scores: one a unit, `[U]`.
    """
    near = {reach: _mean_nearby(scores, structure.passage, reach) for reach in (2, 4, 8)}
    return np.stack(
        [
            *near.values(),
            group_mean(scores, structure.paragraph),
            group_mean(scores, structure.section),
            _score_of(structure.lead_in, scores, near[2]),
            _score_of(structure.heading, scores, near[2]),
            _mean_of_best(scores, structure.passage),
        ],
        1,
    )


def group_mean(scores: Floats, group: Indices) -> Floats:
    """For each unit the mean score of its group, `[U]`."""
    sizes = np.bincount(group)
    sums = np.bincount(group, scores)
    return np.asarray((sums / np.maximum(sizes, 1))[group])


def neighbour_correlation(scores: Floats, passage: Indices) -> float:
    """How alike units score that follow each other in a passage, -1 to 1; 0 for a few units."""
    together = passage[1:] == passage[:-1]
    if together.sum() < _MIN_PAIRS:
        return 0.0
    return correlation(scores[:-1][together], scores[1:][together])


def _mean_nearby(scores: Floats, passage: Indices, reach: int) -> Floats:
    """The mean over the units of the passage at most `reach` away, the unit itself included."""
    total = np.concatenate([[0.0], np.cumsum(scores)])
    place = np.arange(len(scores))
    start = np.maximum(place - reach, np.searchsorted(passage, passage, "left"))
    stop = np.minimum(place + reach + 1, np.searchsorted(passage, passage, "right"))
    return np.asarray((total[stop] - total[start]) / (stop - start))


def _score_of(index: Indices, scores: Floats, otherwise: Floats) -> Floats:
    return np.where(index >= 0, scores[index], otherwise)


def _mean_of_best(scores: Floats, passage: Indices) -> Floats:
    """For each unit the mean of its passage's best three scores."""
    order = np.lexsort((-scores, passage))
    rank = np.empty(len(scores), dtype=np.int64)
    rank[order] = np.arange(len(scores))
    is_top = rank - np.searchsorted(passage, passage, "left") < _TOP_UNITS
    sizes = np.bincount(passage[is_top], minlength=passage.max() + 1)
    sums = np.bincount(passage[is_top], scores[is_top], minlength=passage.max() + 1)
    return np.asarray((sums / np.maximum(sizes, 1))[passage])


_LARGEST_MARGIN = 5.0
ENCODER = "encoder_"
"""How the names of the weights begin that are used together with an encoder."""
ENCODER_SHARE = 1 / 3
"""The encoder reads this share of a request's tokens, in the units that are best without it. All
of them keep no more. Figures: lab/log/domains.md#2026-11-26-the-encoder-reads-a-third."""
_MIN_ENCODED_UNITS = 8
_FILL_QUANTILE = 0.25
"""A unit that the encoder did not read has this quantile of the cosines that are known."""
LINKS = (
    "words_shared",
    "title_named",
    "names_title",
    "titles_shared_words",
    "same_passage",
    "named_and_passage",
)
_LINK_COLUMNS = [HOP_FEATURES.index(name) for name in LINKS]
_SINGLE_COLUMN = 1
_BM25_COLUMN = WORD_FEATURES.index("bm25_z")
_EPSILON = 1e-6
COSINE_WEIGHT, SHORT_UNITS = 0.25, 128
"""The weight of a cosine's z-score beside a unit's logit, where the units of a short document are
put in order, and how many units such a document has at most. Figures:
lab/log/evidence.md#2026-12-02-each-relation-taken-out."""


@dataclass(frozen=True, slots=True)
class RequestTexts:
    """What is known of a request before a model reads it.

    Attributes:
        structure: where its units stand. lexicon: their words.
        tokens: of each unit. has_titles: whether a passage has a title.
    """

    question: str
    structure: Structure
    lexicon: Lexicon
    tokens: Sequence[int]
    has_titles: bool

    @classmethod
    def of(
        cls,
        question: str,
        passages: Sequence[Passage],
        units: Sequence[Unit],
        tokens: Sequence[int],
    ) -> RequestTexts:
        """The texts of a request with at least one unit."""
        return cls(
            question,
            unit_structure(passages, units),
            Lexicon(question, passages, units),
            tokens,
            any(read_before(passage) for passage in passages),
        )


def second_step_features(
    texts: RequestTexts, first: Tensor, single: Tensor, words: Tensor
) -> GatedFeatures:
    """The features of a request's second step, without an encoder.

    Args:
        first: each unit's score by the fit to whole requests, `[U]`.
        single: each unit's score by the fit to single units, `[U]`.
        words: `[U, len(WORD_FEATURES)]`.
    """
    base, single_base = _from_best(first), _from_best(single)
    bm25 = words[:, _BM25_COLUMN].double().numpy()
    passage_best = group_maximum(single_base, texts.structure.passage)
    levels = np.concatenate(
        [
            level_features(texts.structure, base),
            level_features(texts.structure, single_base),
            passage_best[:, None],
        ],
        1,
    )
    links = hop_features(texts.lexicon, first.double().numpy())[:, _LINK_COLUMNS]
    return GatedFeatures(
        # as it is: how good the best unit is tells whether any is
        first.float(),
        torch.from_numpy(np.stack([base, single_base, bm25], 1)).float(),
        {"links": torch.from_numpy(links).float(), "levels": torch.from_numpy(levels).float()},
        torch.from_numpy(request_features(texts, base, single_base, bm25)).float(),
    )


def encoder_candidates(
    scores: Tensor, tokens: Sequence[int], allowed: Tensor | None = None
) -> Tensor:
    """The units that an encoder shall read, by their indexes, ascending.

    Args:
        scores: of each unit without the encoder, `[U]`. tokens: of each unit.
        allowed: those that it may read, `[U]` bool; None for all.
    """
    order = scores.argsort(descending=True, stable=True)
    if allowed is not None:
        order = order[allowed[order]]
    lengths = torch.tensor(tokens, dtype=torch.float64)
    within = lengths[order].cumsum(0) <= ENCODER_SHARE * lengths.sum()
    return order[: max(int(within.sum()), _MIN_ENCODED_UNITS)].sort().values


def candidate_cosines(cosines: Tensor, candidates: Tensor) -> Tensor:
    """The cosines of the candidates, and a low one for all other units, `[U]`.

    Args:
        cosines: `[U]`; those of other units are not looked at. A candidate's is not a number where
            a reading was kept, and its features, rounded, make a candidate of a unit that the
            encoder did not read.
    """
    read = candidates[~cosines[candidates].isnan()]
    known = cosines[read]
    filled = torch.full_like(cosines, float(known.quantile(_FILL_QUANTILE)))
    filled[read] = known
    return filled


def add_cosines(
    features: GatedFeatures, texts: RequestTexts, scores: Tensor, cosines: Tensor
) -> GatedFeatures:
    """The features without an encoder, and behind them those of its cosines.

    Args:
        scores: of each unit without the encoder, `[U]`: by them it chose what to read.
        cosines: `[U]`; those of units that it does not read are not looked at, and may be no
            numbers.
    """
    candidates = encoder_candidates(scores, texts.tokens, ~cosines.isnan())
    cosine = z_scores(candidate_cosines(cosines, candidates).double().numpy(), _EPSILON)
    single = features.own[:, _SINGLE_COLUMN].double().numpy()
    levels = torch.from_numpy(level_features(texts.structure, cosine)).float()
    request = features.request.new_tensor(
        [correlation(single, cosine), neighbour_correlation(cosine, texts.structure.passage)]
    )
    return GatedFeatures(
        features.base,
        torch.cat([features.own, torch.from_numpy(cosine).float()[:, None]], 1),
        {**features.parts, "levels": torch.cat([features.parts["levels"], levels], 1)},
        torch.cat([features.request, request]),
    )


def _from_best(scores: Tensor) -> Floats:
    """Scores less the best of the request, which leaves their order and their differences."""
    return np.asarray((scores - scores.max()).double().numpy())


def request_features(texts: RequestTexts, first: Floats, single: Floats, words: Floats) -> Floats:
    """One row for a request: `[13]`.

    How many units and passages there are, as logs, and units a passage; entropy and margin of the
    first step; whether there are titles; median and spread of the units' lengths; the question's
    length; how like words the single pass scores, how alike neighbours score; the share of list
    items; how far passages differ.

    Args:
        first, single, words: scores of each unit `[U]`: the first step's two, and BM25.
    """
    units, passages = len(first), int(texts.structure.passage.max()) + 1
    shares = np.exp(first - first.max())
    shares /= shares.sum()
    entropy = -float((shares * np.log(shares + 1e-12)).sum()) / math.log(max(units, 2))
    ranked = np.sort(first)[::-1]
    lengths = np.log1p(np.asarray(texts.tokens, dtype=np.float64))
    row = [
        math.log(units),
        math.log(passages),
        math.log(units / passages),
        entropy,
        min(float(ranked[0] - ranked[min(2, units - 1)]), _LARGEST_MARGIN),
        float(texts.has_titles),
        float(np.median(lengths)),
        deviation(lengths),
        math.log1p(len(texts.question)),
        correlation(single, words),
        neighbour_correlation(first, texts.structure.passage),
        float(texts.structure.is_listed.mean()),
        deviation(group_mean(first, texts.structure.passage)) / (deviation(first) + 1e-6),
    ]
    return np.array(row)


SCORE_FEATURES = (
    "best",
    "second",
    "logsumexp",
    "mean",
    "best_alone",
    "logsumexp_alone",
    "log_units",
)
ANSWER_FEATURES = (
    *SCORE_FEATURES,
    *(f"{name}_of_best" for name in WORD_FEATURES),
    *(f"most_{name}" for name in WORD_FEATURES),
)
_MIN_UNITS = 16
"""A request of so many is compared with those of the fit."""


class SecondStep:
    """The second step of one request. What is the same with an encoder and without is done once.

    Attributes:
        texts: of the request. first: the first step's features, `[U, F]`.
    """

    def __init__(self, probe: LinearProbe, texts: RequestTexts, first: Tensor) -> None:
        self.probe, self.texts, self.first = probe, texts, first

    def scores(self, cosines: Tensor | None = None) -> tuple[Tensor, bool]:
        """Each unit's score `[U]`, and whether the request is unlike the fit's.

        Args:
            cosines: by an encoder, `[U]`; then the weights that were fitted with them are used.
                Those of units that are no candidates are not looked at.
        """
        if "levels" not in self.probe.weights:
            # a second step of links alone, of probes from before units were judged by what
            # surrounds them
            z = self.first @ self.probe.weight("first", (self.first.shape[1],))
            second = torch.from_numpy(hop_features(self.texts.lexicon, z.double().numpy()))
            return second @ self.probe.weight("hop", (len(HOP_FEATURES),)), False
        features, scores, prefix = self._features, self._alone, ""
        if cosines is not None:
            features, prefix = add_cosines(features, self.texts, scores, cosines), ENCODER
            scores = gated_scores(self.probe, features, prefix)
        # of a few units the shape of a request says nothing
        is_long = len(self.first) >= _MIN_UNITS
        return scores, is_long and is_unlike_fit(self.probe, features.request, prefix)

    @cached_property
    def _features(self) -> GatedFeatures:
        """The features without an encoder."""
        size = (self.first.shape[1],)
        z, single = (self.first @ self.probe.weight(name, size) for name in ("first", "single"))
        return second_step_features(self.texts, z, single, self.first[:, -len(WORD_FEATURES) :])

    @cached_property
    def _alone(self) -> Tensor:
        """The scores without an encoder, `[U]`."""
        return gated_scores(self.probe, self._features)


def unit_scores(
    probe: LinearProbe, texts: RequestTexts, first: Tensor, cosines: Tensor | None = None
) -> tuple[Tensor, bool]:
    """As `SecondStep.scores`, where they are needed once."""
    return SecondStep(probe, texts, first).scores(cosines)


def unit_probabilities(probe: LinearProbe, z: Tensor, prefix: str = "") -> Tensor:
    """The probability that each unit answers, from its score of the second step, `[U]`.

    Args:
        prefix: `ENCODER` for scores that an encoder's cosines are part of.
    """
    name = f"{prefix}calibration"
    # four before a unit's share of the request was weighed
    size = 4 if len(probe.weights.get(name, ())) == 4 else 5
    return Calibration(*probe.weight(name, (size,)).tolist())(z)


def is_short(structure: Structure) -> bool:
    """Whether a request is one short document, all of whose units the encoder reads."""
    return len(structure.passage) <= SHORT_UNITS and not structure.passage.any()


def order_by_cosines(probabilities: Tensor, cosines: Tensor) -> Tensor:
    """The same probabilities, given to the units of a short document in another order, `[U]`.

    The order is that of their logits and of `COSINE_WEIGHT` times the z-score of their cosine. How
    many units reach a threshold, and the best one's probability, stay as they were calibrated.
    Beside other documents and in long ones it costs evidence: the second fact of a chain, or what
    was said in a meeting, need not be like the question.

    Args:
        cosines: of all units with the question, `[U]`.
    """
    likeness = torch.from_numpy(z_scores(cosines.double().numpy(), _EPSILON)).float()
    order = probabilities.logit(1e-6) + COSINE_WEIGHT * likeness.nan_to_num()
    given = torch.empty_like(probabilities)
    given[order.argsort(descending=True, stable=True)] = probabilities.sort(descending=True).values
    return given


def isolated_probabilities(probe: LinearProbe, isolated: Tensor) -> Tensor:
    """The probability that each unit answers, from features of its own window `[U, 2·L·H + 1]`."""
    z = isolated @ probe.weight("alone", (2 * probe.card.layers * probe.card.heads + 1,))
    return Calibration(*probe.weight("alone_calibration", (4,)).tolist())(z)


def answerability(probe: LinearProbe, first: Tensor, z: Tensor, isolated: Tensor) -> float | None:
    """The probability that the context holds an answer; None if the probe was not fitted for it."""
    if not len(probe.weights.get("answerable", ())):
        return None
    weights = probe.weight("answerable", (len(ANSWER_FEATURES) + 1,))
    alone = isolated @ probe.weight("alone", (isolated.shape[1],))
    features = answer_features(z, alone, first)
    return float(torch.sigmoid(features @ weights[:-1] + weights[-1]))


def answer_features(z: Tensor, alone: Tensor, first: Tensor) -> Tensor:
    """One row of features for a request: `[len(ANSWER_FEATURES)]`.

    Args:
        z: `[U]` scores of the second step, at least one.
        alone: `[U]` scores of each unit from its own window.
        first: those of the first step, whose last columns are words.
    """
    words = first[:, -len(WORD_FEATURES) :]
    ranked = z.sort(descending=True)
    seconds = ranked.values[min(1, len(z) - 1)]
    scores = torch.stack(
        [
            ranked.values[0],
            seconds,
            z.logsumexp(0),
            z.mean(),
            alone.max(),
            alone.logsumexp(0),
            z.new_tensor(math.log(len(z))),
        ]
    )
    return torch.cat([scores, words[ranked.indices[0]], words.amax(0)]).float()


def isolated_features(reading: Reading) -> Tensor:
    """Features of each unit from its own window: heads, and its length: `[U, 2·L·H + 1]`."""
    return torch.cat([reading.features, torch.tensor(reading.tokens).float().log1p()[:, None]], 1)


def first_features(reading: Reading, question: str, lexicon: Lexicon) -> Tensor:
    """The first step's features: heads, then words: `[U, 2·L·H + len(WORD_FEATURES)]`."""
    of_words = word_features(question, lexicon, reading.tokens)
    return torch.cat([reading.features, torch.from_numpy(of_words)], 1)


def check_isolation(probe: LinearProbe) -> None:
    """Refuses a probe whose isolated calibration depends on other passages.

    The best score and the sum of a request would let one passage change the score of another.

    Raises:
        BadModelFile: it does.
    """
    _, b, c, _ = probe.weight("alone_calibration", (4,)).tolist()
    if b or c:
        raise BadModelFile(
            f"the probe's alone_calibration weighs the request's best ({b:g}) and sum ({c:g}), so "
            "scores would not be isolated; both must be 0: fit it again with tamis lab "
            "probe calibrate"
        )


FLOORS = "answerable_floors"
"""Where a probe's card has the answerabilities from which on a context is `partly` answerable, and
from which on it is `answerable`."""
_SHOWN_WORDS = 5
_MIN_WORD = 4
_SAMPLED_TEXTS, _SAMPLED_CHARS = 16, 1000
_FRAME = frozenset(
    "about after again also been before being both could does done each else from happen happens "
    "have into just like long many more most much must need often only other over same several "
    "should some still such than that their them then there these they this those through under "
    "until upon using want were what when where which while whom whose will with without would "
    "your "
    "darf eine einen habe haben kann mein meine meinen muss oder sind soll viel viele wann warum "
    "welche welchem welchen welcher welches werden wieviel wird woher wohin "
    "avec combien comment dans dois elle faut mais peut peux pour pourquoi quand quel quelle "
    "quelles quels sont votre "
    "como cuál cuáles cuándo cuánta cuántas cuánto cuántos cómo debo desde dónde hace hasta para "
    "porque puede puedo quién quiénes tiene tengo "
    "come devo dove perché posso quali quando quanta quante quanti quanto "
    "onde quais quantas quantos qual hoeveel moet waar waarom wanneer welk welke".split()
)
"""Words of four letters and more that a question has whatever it asks."""
_COMMON_WORDS = "de:und en:the es:los fr:les it:gli nl:het pl:jest pt:uma sv:och tr:için vi:của"
_COMMON_WORD = dict(pair.split(":") for pair in _COMMON_WORDS.split())
"""A frequent word of each language in Latin script that `guess_language` tells apart."""


def judge(
    probe: LinearProbe,
    answerability: float | None,
    texts: RequestTexts,
    languages: tuple[str, str] | None,
    is_unlike: bool = False,
) -> dict[str, Any]:
    """The fields `verdict`, `floor` and `reason` of `Scores`, by a probe's calibration.

    Args:
        languages: those of the question and of a document in another: then there is no verdict.
        is_unlike: whether the request is unlike the fit's: then there is none in place of
            `unanswerable`.
    """
    seen = "the probe was not fitted to tell"
    if answerability is not None:
        seen = f"answerability is {answerability:.2f}"
    floors = probe.card.figures.get(FLOORS)
    if answerability is None or floors is None:
        return {"reason": f"{seen}, and no floor was calibrated for this probe"}
    missing = absent_words(content_words(texts.question), texts.lexicon)
    low, high = floors["partly"], floors["answerable"]
    if languages is not None:
        asked, read = languages
        return {"floor": low, "reason": f"{seen}, but a document is in {read!r}, not {asked!r}"}
    if answerability >= high:
        return {"verdict": "answerable", "floor": low, "reason": f"{seen}, at least {high:g}"}
    is_low = answerability < low
    seen += f", below {low:.2g}" if is_low else f", between {low:.2g} and {high:g}"
    if missing:
        seen += f"; in no document: {', '.join(map(repr, missing[:_SHOWN_WORDS]))}"
    if is_low and is_unlike:
        return {"floor": low, "reason": f"{seen}; the passages are unlike those of the fit"}
    return {"verdict": "unanswerable" if is_low else "partly", "floor": low, "reason": seen}


def content_words(question: str) -> list[str]:
    """The question's words, short ones and those of any question left out."""
    return [
        word
        for word in dict.fromkeys(cached_words(question))
        if len(word) >= _MIN_WORD and word not in _FRAME
    ]


def absent_words(words: Sequence[str], lexicon: Lexicon) -> list[str]:
    """The words, as its terms, that no unit and no title has."""
    known = frozenset().union(*lexicon.titled)
    return [word for word in words if stem(word) not in known]


def languages_apart(model: str, question: str, texts: Sequence[str]) -> tuple[str, str] | None:
    """The language of a question and that of the first document in another; None where no document
    plainly is.

    A language is told document by document, by its script or by function words: more than one of
    them, since a name or a title may have one. None, too, for a model of many languages, or of
    unknown ones.
    """
    if model not in zoo.ZOO or zoo.ZOO[model].is_multilingual:
        return None
    asked = guess_language(question, ())
    for text in texts[:: max(1, len(texts) // _SAMPLED_TEXTS)]:
        sample = text[:_SAMPLED_CHARS]
        read = guess_language(sample, ())
        if read != asked and _is_plain(question, asked, read) and _is_plain(sample, read, asked):
            return asked, read
    return None


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
    """The warning of a question in another language than a document."""
    return (
        f"the question seems to be in {asked!r} and a document in {read!r}: {model} reads English "
        "and does not carry a question over, so what it finds there shares names and words with "
        f"the question at best, and there is no verdict; ask in {read!r}"
    )
