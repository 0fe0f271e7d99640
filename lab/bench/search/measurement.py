"""Measures searches of token keys against the exact search, at one size of a corpus.

recall@10   of the ten chunks that the exact search ranks first, the share that is found: by keys
            alone, and by keys and BM25 together
nDCG@10     of documents with judgements, by their best chunk, by keys and BM25 together
keys read   that each query vector was compared with, centroids included, as a share of all keys
ms, CPU ms  of the search of keys, without encoding the question and without BM25
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis.retrieval.approximate.types import Floats, KeySearch
from tamis.retrieval.index.key_shards import KeyShard, LocalShards
from tamis.retrieval.index.legs import (
    CANDIDATES,
    OTHERS_DEPTH,
    KeyLeg,
    LegScores,
    complete_scores,
    fuse_standard_scores,
    top_indexes,
)
from tamis_lab.bench.ranking.retrieval import query_metrics
from tamis_lab.bench.search.key_corpus import KeyCorpus

TOP = 10
EFFORTS = (0.25, 0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True, slots=True)
class KeyQuestion:
    """A question as it is searched for.

    Attributes:
        queries: `[R, H·d]`. bm25: `[C]` of the real chunks. grades: of documents, by id.
    """

    queries: Floats
    bm25: Floats
    grades: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class SearchedCorpus:
    """A corpus, the exact scores of its questions, and how long those took.

    Attributes:
        owners: `[C]`, the document of each chunk; empty for drawn ones.
        ms, cpu_ms: of each exact search.
    """

    corpus: KeyCorpus
    heads: int
    owners: NDArray[Any]
    questions: Sequence[KeyQuestion]
    exact: Sequence[LegScores]
    ms: Sequence[float]
    cpu_ms: Sequence[float]


def search_exactly(
    corpus: KeyCorpus,
    heads: int,
    owners: NDArray[Any],
    questions: Sequence[KeyQuestion],
    report: Callable[[], None],
) -> SearchedCorpus:
    """Runs the exact search of every question."""
    leg = _key_leg(corpus, heads, ())
    found, ms, cpu_ms = [], [], []
    for question in questions:
        timed = _timed(partial(leg.exact, question.queries))
        found.append(timed[0])
        ms.append(timed[1])
        cpu_ms.append(timed[2])
        report()
    return SearchedCorpus(corpus, heads, owners, questions, found, ms, cpu_ms)


def measure_searches(
    searched: SearchedCorpus, searches: Sequence[KeySearch], effort: float = 1.0
) -> dict[str, float]:
    """The figures of one structure at one effort, as means and percentiles over the questions."""
    corpus = searched.corpus
    live = np.ones(len(corpus.starts) - 1, bool)
    leg = _key_leg(corpus, searched.heads, searches)
    rows = []
    for question, exact in zip(searched.questions, searched.exact, strict=True):
        words = _bm25_leg(question, live)
        others = np.sort(top_indexes(words.values, words.values > 0, OTHERS_DEPTH))
        search = partial(
            leg.approximate,
            question.queries,
            live,
            candidates=max(TOP, round(CANDIDATES * effort)),
            effort=effort,
        )
        alone = search(others=np.zeros(0, np.int64))
        found, ms, cpu_ms = _timed(partial(search, others=others))
        rows.append(
            {
                "recall_at_10_keys": _shared(_top(exact), _top(alone)),
                **_fused_figures(searched, question, exact, found, words),
                "keys_read": found.keys_read / len(corpus.keys),
                "ms": ms,
                "cpu_ms": cpu_ms,
            }
        )
    return _summary(rows)


def measure_exact(searched: SearchedCorpus) -> dict[str, float]:
    """The figures of the exact search."""
    live = np.ones(len(searched.corpus.starts) - 1, bool)
    rows = [
        {
            "recall_at_10_keys": 1.0,
            **_fused_figures(searched, question, exact, exact, _bm25_leg(question, live)),
            "keys_read": 1.0,
            "ms": searched.ms[q],
            "cpu_ms": searched.cpu_ms[q],
        }
        for q, (question, exact) in enumerate(zip(searched.questions, searched.exact, strict=True))
    ]
    return _summary(rows)


def measure_bm25(searched: SearchedCorpus) -> dict[str, float]:
    """What BM25 alone finds of the exact search by keys and BM25."""
    live = np.ones(len(searched.corpus.starts) - 1, bool)
    rows = []
    for question, exact in zip(searched.questions, searched.exact, strict=True):
        words = _bm25_leg(question, live)
        wanted = top_indexes(fuse_standard_scores({"b": words, "k": exact}, {}), live, TOP)
        rows.append(
            {
                "recall_at_10_keys": _shared(_top(exact), _top(words)),
                "recall_at_10": _shared(wanted, _top(words)),
                "ndcg_at_10": _ndcg(words.values, searched.owners, question.grades),
                "keys_read": 0.0,
                "ms": 0.0,
                "cpu_ms": 0.0,
            }
        )
    return _summary(rows)


def time_growth(sizes: Sequence[int], ms: Sequence[float]) -> float | None:
    """The slope of log ms over log size, by least squares; None for a single size."""
    if len(sizes) < 2:
        return None
    return float(np.polyfit(np.log(sizes), np.log(np.maximum(ms, 1e-3)), 1)[0])


def _fused_figures(
    searched: SearchedCorpus,
    question: KeyQuestion,
    exact: LegScores,
    found: LegScores,
    words: LegScores,
) -> dict[str, float]:
    live = np.ones(len(words.values), bool)
    known = live if found.known is None else found.known
    wanted = top_indexes(fuse_standard_scores({"b": words, "k": exact}, {}), live, TOP)
    fused = fuse_standard_scores({"b": words, "k": found}, {})
    ranked = np.where(known, fused, -np.inf)
    return {
        "recall_at_10": _shared(wanted, top_indexes(fused, known, TOP)),
        "ndcg_at_10": _ndcg(ranked, searched.owners, question.grades),
    }


def _key_leg(corpus: KeyCorpus, heads: int, searches: Sequence[KeySearch]) -> KeyLeg:
    live = np.ones(len(corpus.starts) - 1, bool)
    return KeyLeg(
        [corpus.starts],
        [bool(searches)],
        heads,
        live,
        lambda drawn: LocalShards(
            [KeyShard(corpus.keys, corpus.starts, searches, heads, drawn[0])]
        ),
    )


def _bm25_leg(question: KeyQuestion, live: NDArray[np.bool_]) -> LegScores:
    values = np.zeros(len(live), np.float32)
    values[: len(question.bm25)] = question.bm25
    return complete_scores(values, live)


def _top(leg: LegScores) -> NDArray[Any]:
    known = np.ones(len(leg.values), bool) if leg.known is None else leg.known
    return top_indexes(leg.values, known, TOP)


def _shared(wanted: NDArray[Any], found: NDArray[Any]) -> float:
    return len(set(wanted.tolist()) & set(found.tolist())) / max(1, len(wanted))


def _ndcg(scores: NDArray[Any], owners: NDArray[Any], grades: Mapping[str, float]) -> float:
    """nDCG@10 of documents by their best chunk; NaN where none was judged."""
    if not any(grade > 0 for grade in grades.values()):
        return float("nan")
    ranked: dict[str, None] = {}
    for chunk in top_indexes(scores, np.isfinite(scores), 200):
        ranked.setdefault(owners[chunk] or f"drawn {chunk}")
    return query_metrics(list(ranked), grades)[2]


def _summary(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    means = {name: float(np.nanmean([row[name] for row in rows])) for name in rows[0]}
    ms = [row["ms"] for row in rows]
    cpu = [row["cpu_ms"] for row in rows]
    del means["ms"], means["cpu_ms"]
    return {
        **means,
        "ms_p50": statistics.median(ms),
        "ms_p95": float(np.percentile(ms, 95)),
        "cpu_ms_p50": statistics.median(cpu),
    }


def _timed(call: Callable[[], LegScores]) -> tuple[LegScores, float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    found = call()
    return found, (time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3
