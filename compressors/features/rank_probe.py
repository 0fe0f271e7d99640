"""Ranks whole documents by the attention of the question's rows, their words and their best unit.

Attention to the whole document and to its best unit, head by head, and the document's words are
weighed by a linear probe, fitted listwise over the documents of a query. The unit scores of
`question_rows` are added with weights that were chosen, not fitted: the first step's evidence,
summed over all units, and the log odds of the best unit after the second step, which finds
documents that the question does not name. Where sentence encoders are installed, what they say of
each document is added to their log odds.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tamis.compressors.features.bm25 import Collection
from tamis.compressors.features.likeness import LikenessJudges, most_alike, spread_values
from tamis.compressors.features.scales import log_odds
from tamis.compressors.features.shipped_probes import choose_probe
from tamis.compressors.method import ranks_from_scores
from tamis.compressors.reading.windows import Reading
from tamis.compressors.types import Ranks
from tamis.probes.errors import BadInput
from tamis.probes.probing.linear import Calibration, LinearProbe
from tamis.text.inputs import read_before
from tamis.text.terms import cached_words, stem
from tamis.text.types import Passage, Unit, units_among

RANK_WORDS = ("bm25", "covered", "title_covered", "log_tokens")
_TINY = 1e-9


def rank_features(
    question: str, reading: Reading, passages: Sequence[Passage], units: Sequence[Unit]
) -> Tensor:
    """One row per passage: `[P, 2·L·H + len(RANK_WORDS)]`.

    The attention to the whole passage, then to its best unit, then what `RANK_WORDS` names. Only
    the first half of `reading.features`, the log means, is used.
    """
    place = torch.tensor([unit.passage for unit in units])
    tokens = torch.tensor(reading.tokens, dtype=torch.float32)
    whole = passage_masses(reading, place, len(passages))
    best = best_unit_means(reading, place, len(passages))
    length = torch.zeros(len(passages)).index_add(0, place, tokens).log1p()
    shares = torch.from_numpy(word_shares(question, passages))
    return torch.cat([whole, best, shares, length[:, None]], 1)


def first_word_column(layers: int, heads: int) -> int:
    """The column of the first of `RANK_WORDS`."""
    return 2 * layers * heads


def passage_masses(reading: Reading, place: Tensor, passages: int) -> Tensor:
    """Log of the question rows' attention to all units of each passage, head by head: `[P, L·H]`.

    The first half of `reading.features` is the log of each unit's mean per token, `[U, L·H]`.
    """
    means = _log_means(reading)
    tokens = torch.tensor(reading.tokens, dtype=torch.float32)
    mass = torch.zeros(passages, means.shape[1])
    return mass.index_add(0, place, means.exp() * tokens[:, None]).clamp_min(_TINY).log()


def best_unit_means(reading: Reading, place: Tensor, passages: int) -> Tensor:
    """Returns each passage's log mean per token of a head's best unit: `[P, L·H]`.

    A passage without units has log(1e-9).
    """
    means = _log_means(reading)
    lowest = torch.full((passages, means.shape[1]), math.log(_TINY))
    return lowest.scatter_reduce(0, place[:, None].expand_as(means), means, "amax")


def _log_means(reading: Reading) -> Tensor:
    return reading.features[:, : reading.features.shape[1] // 2]


def word_shares(question: str, passages: Sequence[Passage]) -> np.ndarray:
    """How much of the question's words each passage has: `[P, 3]`, as `WordIndex.shares`."""
    return WordIndex([(read_before(p), p.text) for p in passages]).shares(question)


class WordIndex:
    """The stemmed words of titles and texts, counted once for many questions.

    Args:
        texts: a title and a text each.
    """

    def __init__(self, texts: Iterable[tuple[str, str]]) -> None:
        self._titles, bodies = list[set[str]](), list[list[str]]()
        for title, text in texts:
            head = [stem(word) for word in cached_words(title)]
            self._titles.append(set(head))
            bodies.append([*head, *(stem(word) for word in cached_words(text))])
        self._collection = Collection.of_terms(bodies)

    def shares(self, question: str) -> np.ndarray:
        """How much of the question's words each text has: `[N, 3]`, each from 0 to 1.

        BM25 as a share of what a text of these words alone could reach; the share of the words,
        weighed by their idf among these texts, that title and text cover; the same for the title
        alone.
        """
        terms, collection = [stem(word) for word in cached_words(question)], self._collection
        idf = {term: collection.idf(term) for term in terms}
        most = math.fsum(idf[t] * n for t, n in Counter(terms).items()) * (collection.k1 + 1)
        whole = math.fsum(idf.values()) + _TINY
        rows = [
            (
                score / (most + _TINY),
                math.fsum(idf[t] for t in sorted(idf.keys() & bag.keys())) / whole,
                math.fsum(idf[t] for t in sorted(idf.keys() & title)) / whole,
            )
            for score, bag, title in zip(
                collection.score(terms), collection.bags, self._titles, strict=True
            )
        ]
        return np.array(rows, dtype=np.float32).reshape(len(rows), 3)


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
        values = tuple(Calibration(*probe.weight("calibration", (4,)).tolist())(z).tolist())
    timings = dict(scores.timings_ms) | {"rank": (time.perf_counter() - clock) * 1e3}
    return replace(ranks_from_scores(scores), values=values, timings_ms=timings)


READ_DOCUMENTS = 12
"""So many documents of a longer list are read by the proxy, those that are most like the question;
on lists of fifty and of twenty they give the same nDCG@10 as all."""
_LEAST_LOG_ODDS = -6.0
"""The rank probe's log odds count from here up: below, what it says of documents that hold no
evidence would outweigh what it says of those that do."""


def rank_with_encoders(
    method: Any,
    judges: LikenessJudges,
    question: str,
    passages: Sequence[Passage],
    units: Sequence[Unit],
) -> Ranks:
    """`rank_with_probe`, with how like the question each document is to sentence encoders.

    The proxy reads the `READ_DOCUMENTS` that are most like the question to the encoders. The others
    are as relevant as the least of these is to it; their units have the score of the least of the
    units read.

    Args:
        method: as for `rank_with_probe`; its rank probe can be used.
    """
    clock = time.perf_counter()
    likeness = judges.judge(question, passages)
    encode_ms = (time.perf_counter() - clock) * 1e3
    read = most_alike(likeness, READ_DOCUMENTS)
    moved = units_among(units, read)
    found = rank_with_probe(method, question, [passages[p] for p in read], moved)
    own = log_odds(found.values, _MIN_PROBABILITY).clip(_LEAST_LOG_ODDS)
    proxy = spread_values(own, read, len(passages))
    unit_values = np.full(len(units), min(found.units, default=0.0))
    unit_values[np.isin([unit.passage for unit in units], read)] = found.units
    z = judges.weights.odds * proxy + likeness + judges.weights.intercept
    timings = {"encode": encode_ms} | dict(found.timings_ms)
    return replace(
        found,
        values=tuple(torch.from_numpy(z).sigmoid().tolist()),
        units=tuple(unit_values.tolist()),
        timings_ms=timings,
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
