"""What each way of scoring keeps of every domain's evidence, and how far it is from the best free.

Units are taken by score into a share of the tokens, as the proxy counts them; a gold sentence is
kept when 90 % of its visible characters are. A domain's figure is the mean over its sets.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tamis.compressors.features.scales import z_scores
from tamis.compressors.features.words import WORD_FEATURES
from tamis_lab.bench.domains.left_out import LeftOutFits, method_scores
from tamis_lab.datasets.record_files import ReportProgress
from tamis_lab.datasets.records import gold_spans, is_covered, request_units
from tamis_lab.train.probe.figures import fill_token_share
from tamis_lab.train.probe.labelled_readings import LabelledReading

FREE = ("bm25", "minilm", "bm25+minilm")
"""Methods that need no proxy and no fit; those with an encoder are there where it is installed."""
_BM25 = WORD_FEATURES.index("bm25") - len(WORD_FEATURES)


def free_scores(case: LabelledReading) -> dict[str, Tensor]:
    """The scores of the free methods, by name."""
    bm25 = case.first[:, _BM25]
    if case.cosines is None:
        return {"bm25": bm25}
    both = z_scores(bm25.expm1().tolist(), 1e-9) + z_scores(case.cosines.tolist(), 1e-9)
    return {"bm25": bm25, "minilm": case.cosines, "bm25+minilm": torch.from_numpy(both)}


def kept_gold(case: LabelledReading, scores: Tensor, share: float) -> tuple[int, int]:
    """How many gold sentences of a case are kept at a share of its tokens, and how many it has."""
    units = request_units(case.record)
    spans: list[list[tuple[int, int]]] = [[] for _ in case.record["docs"]]
    for u in fill_token_share(scores, case.tokens, share):
        spans[units[u].passage].append(units[u].visible)
    gold = gold_spans(case.record)
    texts = [doc["text"] for doc in case.record["docs"]]
    return sum(is_covered(texts[d], spans[d], a, b) for d, a, b in gold), len(gold)


def domain_figures(
    cases: Sequence[LabelledReading],
    judged: Sequence[LabelledReading],
    shares: Sequence[float],
    report: ReportProgress,
) -> dict[str, Any]:
    """The table as JSON: by share of the tokens, by domain, by set, the gold kept by each method.

    Args:
        cases: to fit on, each domain's judge leaving that domain out.
        judged: to judge; usually the same and the development sets.
    """
    fits = LeftOutFits(cases)
    domains = [name for name in fits.domains if any(case.domain == name for case in judged)]
    counts: dict[str, dict[str, dict[str, dict[float, list[int]]]]] = {}
    for done, domain in enumerate(domains, 1):
        probe = fits.probe_without(domain)
        sets = counts.setdefault(domain, {})
        for case in judged:
            if case.domain == domain:
                _add_case(sets.setdefault(case.source, {}), probe, case, shares)
        report("domains", done, len(domains))
    return {f"{share:g}": _share_figures(counts, share) for share in shares}


def _add_case(
    methods: dict[str, dict[float, list[int]]],
    probe: Any,
    case: LabelledReading,
    shares: Sequence[float],
) -> None:
    for name, scores in (method_scores(probe, case) | free_scores(case)).items():
        for share in shares:
            total = methods.setdefault(name, {}).setdefault(share, [0, 0, 0])
            kept, gold = kept_gold(case, scores, share)
            total[0], total[1], total[2] = total[0] + kept, total[1] + gold, total[2] + 1


def _share_figures(counts: Mapping[str, Any], share: float) -> dict[str, Any]:
    """The figures at one share: `domains`, and over all sets the means, regrets and misses."""
    domains: dict[str, Any] = {}
    for domain, sets in counts.items():
        rows = {
            name: {"questions": next(iter(methods.values()))[share][2]}
            | {"kept": {m: round(c[share][0] / c[share][1], 4) for m, c in methods.items()}}
            for name, methods in sets.items()
        }
        kept = _mean_kept([row["kept"] for row in rows.values()])
        domains[domain] = {"sets": rows, "kept": kept, "regret": _regrets(kept)}
    kept = _mean_kept([row["kept"] for d in domains.values() for row in d["sets"].values()])
    free = max(kept[name] for name in FREE if name in kept)
    return {
        "domains": domains,
        "mean_kept": kept,
        "largest_regret": {
            name: max(domain["regret"][name] for domain in domains.values())
            for name in kept
            if name not in FREE
        },
        "misses_of_best_free": {
            name: round((1 - value) / (1 - free), 4) if free < 1 else None
            for name, value in kept.items()
        },
    }


def _mean_kept(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: round(statistics.fmean(row[name] for row in rows), 4) for name in rows[0]}


def _regrets(kept: Mapping[str, float]) -> dict[str, float]:
    """How far each method is below the best free one; 0 where it is not."""
    best = max(kept[name] for name in FREE if name in kept)
    return {name: round(max(0.0, best - v), 4) for name, v in kept.items() if name not in FREE}
