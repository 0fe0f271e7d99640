"""Scores of units by the probe of `question_rows`, from the features of a reading; no model runs.

first     heads, then words            [U, 2·L·H + len(WORD_FEATURES)]
isolated  heads, then a unit's length  [U, 2·L·H + 1], of the unit's own window alone
z         the score of the second step [U]
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tamis.compressors.features.second_step import (
    ENCODER,
    RequestTexts,
    add_cosines,
    second_step_features,
)
from tamis.compressors.features.words import (
    HOP_FEATURES,
    WORD_FEATURES,
    Lexicon,
    hop_features,
    word_features,
)
from tamis.compressors.reading.windows import Reading
from tamis.probes.errors import BadModelFile
from tamis.probes.probing.fit import Calibration
from tamis.probes.probing.gated import gated_scores, is_unlike_fit
from tamis.probes.probing.linear import LinearProbe

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
"""Of a request that is compared with those of the fit."""


def unit_scores(
    probe: LinearProbe,
    texts: RequestTexts,
    first: Tensor,
    cosines: Tensor | None = None,
) -> tuple[Tensor, bool]:
    """Each unit's score after the second step, `[U]`, and whether the request is unlike the fit's.

    Args:
        first: the first step's features, `[U, F]`.
        cosines: by an encoder, `[U]`; then the weights that were fitted with them are used. Those
            of units that are no candidates are not looked at.
    """
    if "levels" not in probe.weights:
        return second_step_scores(probe, first, texts.lexicon), False
    z, single = (first @ probe.weight(name, (first.shape[1],)) for name in ("first", "single"))
    features, prefix = second_step_features(texts, z, single, first[:, -len(WORD_FEATURES) :]), ""
    if cosines is not None:
        features = add_cosines(features, texts, gated_scores(probe, features), cosines)
        prefix = ENCODER
    # of a few units the shape of a request says nothing
    is_unlike = len(first) >= _MIN_UNITS and is_unlike_fit(probe, features.request, prefix)
    return gated_scores(probe, features, prefix), is_unlike


def second_step_scores(probe: LinearProbe, first: Tensor, lexicon: Lexicon) -> Tensor:
    """Scores of a second step of links alone `[U]`, from the first step's features `[U, F]`.

    Probes have it that were fitted before units were judged by what surrounds them.
    """
    z = first @ probe.weight("first", (first.shape[1],))
    second = torch.from_numpy(hop_features(lexicon, z.double().numpy()))
    return second @ probe.weight("hop", (len(HOP_FEATURES),))


def unit_probabilities(probe: LinearProbe, z: Tensor, prefix: str = "") -> Tensor:
    """The probability that each unit answers, from its score of the second step, `[U]`.

    Args:
        prefix: `ENCODER` for scores that an encoder's cosines are part of.
    """
    name = f"{prefix}calibration"
    # four before a unit's share of the request was weighed
    size = 4 if len(probe.weights.get(name, ())) == 4 else 5
    return Calibration(*probe.weight(name, (size,)).tolist())(z)


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
    features = answer_features(z, alone, first[:, -len(WORD_FEATURES) :])
    return float(torch.sigmoid(features @ weights[:-1] + weights[-1]))


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
