"""Ranks whole documents by the attention of the question's rows, their words and their best unit.

Attention to the whole document and to its best unit, head by head, and the document's words are
weighed by a linear probe, fitted listwise over the documents of a query. The unit scores of
`question_rows` are added with weights that were chosen, not fitted: the first step's evidence,
summed over all units, and the log odds of the best unit after the second step, which finds
documents that the question does not name.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tamis.compressors.features.log_odds import log_odds
from tamis.compressors.features.rank_features import RANK_WORDS, first_word_column, rank_features
from tamis.compressors.features.shipped_probes import choose_probe
from tamis.compressors.types import Ranks
from tamis.probes.errors import BadInput
from tamis.probes.probing.linear import Calibration, LinearProbe
from tamis.probes.text import Passage, Unit

_MIN_PROBABILITY = 1e-9


def rank_with_probe(
    method: Any, question: str, passages: Sequence[Passage], units: Sequence[Unit]
) -> Ranks:
    """The probability that each passage answers; that of its best unit where no rank probe can act.

    Args:
        method: a `QuestionRows`; its reading and its scores of units are used as they are.
    """
    reading = method.read(question, passages, units)
    scores = method.score_reading(reading, question, passages, units)
    clock = time.perf_counter()
    probe = choose_rank_probe(method)
    values = scores.passages
    if probe is not None and units:
        first = method.first_step(reading, question, passages, units)
        evidence = unit_evidence(first, scores.passages, units)
        features = rank_features(question, reading, passages, units)
        z = document_scores(probe, features, evidence)
        values = tuple(document_probabilities(probe, z).tolist())
    timings = dict(scores.timings_ms) | {"rank": (time.perf_counter() - clock) * 1e3}
    return Ranks(
        values,
        scores.values,
        scores.calibrated,
        scores.windows,
        scores.tokens_read,
        timings,
        scores.warnings,
        scores.tokens_cached,
    )


def choose_rank_probe(method: Any) -> LinearProbe | None:
    """The method's rank probe; None if there is none, or if it cannot be used.

    An isolated method scores passages apart, and this probe compares their words; a method without
    a unit probe, or with one of another depth, lacks the features that it was fitted on. Then the
    probe that ships is left out, and one that was given is refused.

    Raises:
        ProbeMismatch: the proxy has another revision or template.
        BadInput: a probe was given that cannot be used here.
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
    """What the scores of its units give for each passage: `[P, 2]`.

    Args:
        first: `[U]`, the first step's score of each unit.
        best: the probability of each passage's best unit.

    Returns:
        The first step's evidence, summed as odds (the logarithm of a sum of exponentials), and the
        best unit's log odds. A passage without units has the lowest possible value of both.
    """
    place = torch.tensor([unit.passage for unit in units])
    top = first.max()
    odds = torch.zeros(len(best)).index_add(0, place, (first - top).exp())
    evidence = odds.clamp_min(_MIN_PROBABILITY).log() + top
    best_odds = log_odds(np.asarray(best, dtype=np.float32), _MIN_PROBABILITY)
    return torch.stack([evidence, torch.from_numpy(best_odds).float()], 1)


def document_scores(probe: LinearProbe, features: Tensor, evidence: Tensor) -> Tensor:
    """Scores `[P]` of documents from `rank_features` `[P, F]` and `unit_evidence` `[P, 2]`."""
    width = first_word_column(probe.card.layers, probe.card.heads) + len(RANK_WORDS)
    return features @ probe.weight("document", (width,)) + evidence @ probe.weight("units", (2,))


def document_probabilities(probe: LinearProbe, z: Tensor) -> Tensor:
    """The probability that each document answers, from its score; the order stays the same."""
    return Calibration(*probe.weight("calibration", (4,)).tolist())(z)
