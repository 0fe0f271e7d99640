"""How a document ranks by what its question rows saw: all of it, its words, and its best unit.

Attention to the whole document and to its best unit, head by head, and the document's words are
weighed by a linear probe, fitted listwise over the documents of a query. What question_rows thinks
of its units is added with weights that were chosen, not fitted: the first step's evidence, summed
over all units, and the log odds of the best unit after the second step, which finds documents that
the question does not name.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tamis.compressors.features.rank_features import RANK_WORDS, rank_features, words_at
from tamis.compressors.features.shipped_probes import choose_probe
from tamis.compressors.types import Ranks
from tamis.probes.errors import BadInput
from tamis.probes.probing.fit import Calibration
from tamis.probes.probing.linear import LinearProbe
from tamis.probes.text import Passage, Unit

_LEAST = 1e-9


def rank_with_probe(
    method: Any, question: str, passages: Sequence[Passage], units: Sequence[Unit]
) -> Ranks:
    """Each passage's probability to answer; by its best unit where no rank probe fits the method.

    Args:
        method: `QuestionRows`: what it sees and thinks of units is used as it is.
    """
    look = method.read(question, passages, units)
    scores = method.score_reading(look, question, passages, units)
    clock = time.perf_counter()
    probe = probe_for(method)
    values = scores.passages
    if probe is not None and units:
        first = method.first_step(look, question, passages, units)
        told = unit_evidence(first, scores.passages, units)
        z = document_scores(probe, rank_features(question, look, passages, units), told)
        values = tuple(probabilities(probe, z).tolist())
    timings = dict(scores.timings_ms) | {"rank": (time.perf_counter() - clock) * 1e3}
    return Ranks(
        values,
        scores.values,
        scores.calibrated,
        scores.windows,
        scores.tokens_read,
        timings,
        tokens_cached=scores.tokens_cached,
    )


def probe_for(method: Any) -> LinearProbe | None:
    """The method's rank probe; None if there is none, or none may act.

    An isolated method scores passages apart, and this probe compares their words; a method without
    a unit probe, or with one of another depth, has no features that it was fitted for. Then the one
    that ships steps back, and one that was given is refused.

    Raises:
        ProbeMismatch: the proxy has another revision or template.
        BadInput: a probe was given that cannot act here.
    """
    why = ""
    found = None
    if method.isolated:
        why = "isolated documents are scored apart, and a rank probe compares them"
    elif method.probe is None:
        why = "it adds what units say, and probe is None"
    else:
        found = choose_probe("rank", method.reader, method.rank_probe)
        if found is not None and found.card.layers != method.layers:
            why = f"it reads {found.card.layers} layers, and the probe of units {method.layers}"
    if why and method.rank_probe not in ("auto", None):
        raise BadInput(f"rank_probe cannot be used: {why}; leave one of them out")
    return None if why else found


def unit_evidence(first: Tensor, best: Sequence[float], units: Sequence[Unit]) -> Tensor:
    """What its units say of each passage: `[P, 2]`.

    Args:
        first: the first step's score of each unit. best: the best unit's probability a passage.

    Returns:
        The first step's evidence, summed as odds (the logarithm of a sum of exponentials), and the
        best unit's log odds. A passage without units has the least there is of both.
    """
    place = torch.tensor([unit.passage for unit in units])
    top = first.max()
    odds = torch.zeros(len(best)).index_add(0, place, (first - top).exp())
    evidence = odds.clamp_min(_LEAST).log() + top
    return torch.stack([evidence, log_odds(torch.tensor(best))], 1)


def document_scores(probe: LinearProbe, features: Tensor, told: Tensor) -> Tensor:
    """Scores `[P]` of documents from `rank_features` `[P, F]` and `of_units` `[P, 2]`."""
    width = words_at(probe.card.layers, probe.card.heads) + len(RANK_WORDS)
    return features @ probe.get("document", (width,)) + told @ probe.get("units", (2,))


def probabilities(probe: LinearProbe, z: Tensor) -> Tensor:
    """That each document answers, from its score; the order stays."""
    return Calibration(*probe.get("calibration", (4,)).tolist())(z)


def log_odds(probability: Tensor) -> Tensor:
    """Of probabilities, those of 0 and 1 included."""
    clipped = probability.double().clamp(_LEAST, 1 - _LEAST)
    return (clipped / (1 - clipped)).log().float()
