"""How like the question whole documents are to sentence encoders, as log odds of an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis.compressors.features.bm25 import whole_texts
from tamis.compressors.features.words import NamedTexts
from tamis.text.language import guess_language, is_latin
from tamis.text.types import Passage

ENCODE_DOCUMENTS = 40
"""So many documents of a longer list are read by a second encoder, those that are most like the
question to the first; on lists of fifty half as many give the same nDCG@10 as all."""


@dataclass(frozen=True, slots=True)
class LikenessWeights:
    """What the log odds of a document are made of.

    They were chosen as weights of standard scores, which lost least on any domain: .7 to .85 for
    the rank probe and 1 for each value of an encoder, .7 for those of `e5-small` beside it; .5
    beside 2 and 1 for those of `embeddinggemma-300m`; .5 for the rank probe and .7 beside 2 and 1.5
    for those of `e5-small-english`. Then the odds of relevance of that sum were
    fitted, with the rank probe and without it.
    lab/log/ranking.md#2026-11-29-a-second-encoder-for-rankings,
    lab/log/ranking.md#2026-11-29-a-larger-encoder-for-rankings,
    lab/log/ranking.md#2026-11-29-e5-small-of-english

    Attributes:
        odds: of the rank probe's log odds.
        encoders: of each encoder's cosine and late interaction.
        intercept: with the rank probe.
        alone: the intercept without it.
    """

    odds: float
    encoders: tuple[tuple[float, float], ...]
    intercept: float
    alone: float


ENGLISH = LikenessWeights(0.28, ((5.6, 8.0),), -9.59, -10.14)
"""For the encoder of English alone."""
BOTH = LikenessWeights(0.198, ((3.2, 4.6), (11.43, 9.91)), -24.49, -24.95)
"""For the encoder of English, then `e5-small`."""
MULTILINGUAL = LikenessWeights(0.22, ((22.35, 19.39),), -37.63, -37.82)
"""For `e5-small` alone."""
BOTH_E5 = LikenessWeights(0.071, ((1.4, 2.0), (18.36, 10.92)), -28.74, -28.97)
"""For the encoder of English, then `e5-small-english`."""
E5 = LikenessWeights(0.091, ((23.32, 13.88),), -33.41, -33.75)
"""For `e5-small-english` alone."""
BOTH_GEMMA = LikenessWeights(0.147, ((1.59, 2.26), (7.53, 5.69)), -11.61, -11.91)
"""For the encoder of English, then `embeddinggemma-300m`."""
GEMMA = LikenessWeights(0.19, ((9.71, 7.34),), -11.45, -11.82)
"""For `embeddinggemma-300m` alone."""
_OF_RANK_ENCODER = {
    "embeddinggemma-300m": (BOTH_GEMMA, GEMMA),
    "e5-small-english": (BOTH_E5, E5),
}
_OF_OTHERS = (BOTH, MULTILINGUAL)
_OF_ENGLISH_ALONE = ("e5-small-english",)
"""Rank encoders that read no other language."""


def _weights_for(rank_encoder: Any) -> tuple[LikenessWeights, LikenessWeights]:
    """The weights beside the encoder of English, and alone."""
    return _OF_RANK_ENCODER.get(getattr(rank_encoder, "name", ""), _OF_OTHERS)


@dataclass(frozen=True, slots=True)
class LikenessJudges:
    """The encoders that judge a list, in the order in which they read it, and their weights."""

    encoders: Sequence[Any]
    weights: LikenessWeights

    @classmethod
    def choose(
        cls, encoder: Any, rank_encoders: Sequence[Any], question: str, passages: Sequence[Passage]
    ) -> LikenessJudges | None:
        """The encoder of English where question and passages are, and one for rankings.

        Args:
            encoder: that of English; None where it is not there. By itself it judges all that is in
                Latin letters.
            rank_encoders: the best for English first, the best for other languages last: on Chinese
                statutes `e5-small` is ahead of all. Those of English alone judge nothing else.

        Returns:
            None where none can judge.
        """
        texts = [passage.text for passage in passages]
        is_english = bool(rank_encoders) and guess_language(question, texts) == "en"
        able = [
            one
            for one in rank_encoders
            if is_english or getattr(one, "name", "") not in _OF_ENGLISH_ALONE
        ]
        if not able:
            useful = encoder is not None and is_latin(question, texts)
            return cls([encoder], ENGLISH) if useful else None
        if is_english and encoder is not None:
            return cls([encoder, able[0]], _weights_for(able[0])[0])
        chosen = able[0] if is_english else able[-1]
        return cls([chosen], _weights_for(chosen)[1])

    def judge(self, question: str, passages: Sequence[Passage]) -> NDArray[np.float64]:
        """The weighted sum for each document `[P]`; higher is more like the question.

        The first encoder reads every document, a second one the `ENCODE_DOCUMENTS` that are most
        like the question to the first; to it the others are like the least of these. What has an
        identifier of the question is raised (features/words.py).
        """
        texts = whole_texts(passages)
        total, read = np.zeros(len(texts)), list(range(len(texts)))
        for encoder, weights in zip(self.encoders, self.weights.encoders, strict=True):
            values = encoder.interact(question, [texts[p] for p in read])
            pairs = zip(weights, values, strict=True)
            found = sum(weight * value.double().numpy() for weight, value in pairs)
            total += spread_values(found, read, len(texts))
            read = most_alike(total, ENCODE_DOCUMENTS)
        named = NamedTexts.find(question, lambda: texts)
        return named.raise_scores(total) if named else total


def most_alike(likeness: NDArray[np.float64], count: int) -> list[int]:
    """The `count` documents that are most like the question, in the order of the list."""
    return sorted(np.argsort(-likeness, kind="stable")[:count].tolist())


def spread_values(
    values: NDArray[np.float64], read: Sequence[int], documents: int
) -> NDArray[np.float64]:
    """A value for each document: that of those read, and the least of them for the others."""
    every = np.full(documents, min(values, default=0.0))
    every[read] = values
    return every
