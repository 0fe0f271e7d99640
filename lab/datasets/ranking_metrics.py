"""Metrics of a ranking: nDCG, recall and reciprocal rank, as trec_eval computes them."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence


def ndcg(ranking: Sequence[str], qrels: Mapping[str, float], depth: int = 10) -> float:
    """Discounted gain of the first `depth` documents over the best possible one, from 0 to 1.

    Source: Järvelin, Kekäläinen 2002; the gain is the grade, the discount 1 / log2(rank + 1).
    Relevant documents that are not in the ranking count against it.
    """
    gain = _discounted_gain([qrels.get(docid, 0.0) for docid in ranking[:depth]])
    best = _discounted_gain(sorted(qrels.values(), reverse=True)[:depth])
    return gain / best if best else 0.0


def exponential_gains(qrels: Mapping[str, float]) -> dict[str, float]:
    """The gain 2^grade - 1 of each document, for `ndcg` in place of the grades.

    Source: Burges et al. 2005, as in TREC's web tracks; a grade of 3 is worth seven of 1.
    """
    return {docid: 2.0**grade - 1 for docid, grade in qrels.items()}


def _discounted_gain(gains: Sequence[float]) -> float:
    return math.fsum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, 1))


def recall(ranking: Sequence[str], qrels: Mapping[str, float], depth: int = 10) -> float:
    """The share of relevant documents among the first `depth`."""
    return len(set(ranking[:depth]) & set(qrels)) / len(qrels) if qrels else 0.0


def reciprocal_rank(ranking: Sequence[str], relevant: Container[str]) -> float:
    """1 / the rank of the first relevant document; 0 where there is none."""
    return next((1 / rank for rank, docid in enumerate(ranking, 1) if docid in relevant), 0.0)
