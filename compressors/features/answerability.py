"""Features for whether a context holds an answer at all: the scores and words of all its units.

Every context has a best sentence. Whether it answers shows in how far it stands out, in its score
from its own window alone, and in how many of the question's words it covers.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tamis.compressors.features.words import WORD_FEATURES

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


def answer_features(z: Tensor, alone: Tensor, words: Tensor) -> Tensor:
    """One row of features for a request: `[len(ANSWER_FEATURES)]`.

    Args:
        z: `[U]` scores of the second step, at least one.
        alone: `[U]` scores of each unit from its own window.
        words: `[U, len(WORD_FEATURES)]`.
    """
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
