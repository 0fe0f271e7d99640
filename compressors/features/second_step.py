"""The second step: a unit is judged with what surrounds it and with the best units so far.

    first step ─┬─ own      its two scores, its words, its cosine by an encoder
                ├─ links    words and titles shared with the best units: the second hop
                └─ levels   neighbours, paragraph, section, lead-in, heading, passage: runs of steps

The first step has two scores, both of heads and words: one was fitted to tell the best unit of each
request, the other to tell single units apart, whatever the request. The second means the same in
every window and says more of evidence in many units.

How far links and levels are trusted is a gate's decision, which sees the request and no unit of it
(`probes/probing/gated.py`). The weights with an encoder are others, and begin with `encoder_`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tamis.compressors.features.levels import (
    Floats,
    Structure,
    group_mean,
    level_features,
    neighbour_correlation,
    unit_structure,
)
from tamis.compressors.features.words import (
    HOP_FEATURES,
    WORD_FEATURES,
    Lexicon,
    group_maximum,
    hop_features,
)
from tamis.compressors.features.z_scores import correlation, deviation, z_scores
from tamis.probes.probing.gated import GatedFeatures
from tamis.probes.text import Passage, Unit

REQUEST_FEATURES = (
    "log_units",
    "log_passages",
    "log_units_a_passage",
    "entropy",
    "margin",
    "has_titles",
    "median_log_tokens",
    "spread_log_tokens",
    "log_question_chars",
    "single_like_words",
    "neighbours_alike",
    "listed_share",
    "between_passages",
)
ENCODER_REQUEST_FEATURES = ("single_like_encoder", "encoder_neighbours_alike")
_LARGEST_MARGIN = 5.0
ENCODER = "encoder_"
"""How the names of the weights begin that are used together with an encoder."""
ENCODER_SHARE = 1 / 3
"""Of a request's tokens, those that the encoder reads: of the units that are best without it. All
of them keep no more. Figures: lab/log/domains.md#2026-11-26-the-encoder-reads-a-third."""
_MIN_ENCODED_UNITS = 8
_FILL_QUANTILE = 0.25
"""Of the cosines that are known: what a unit has that the encoder did not read."""
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
            any(passage.title for passage in passages),
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
        {
            "links": torch.from_numpy(links).float(),
            "levels": torch.from_numpy(levels).float(),
        },
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
        [
            correlation(single, cosine),
            neighbour_correlation(cosine, texts.structure.passage),
        ]
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
    """One row for a request: `[len(REQUEST_FEATURES)]`.

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
