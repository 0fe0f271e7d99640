"""The table of readings as JSON: three columns, intervals against raw attention in the same column.

    plain    nothing fitted: mean of all heads            heads    mean of the profile's best heads
    probe    a probe on this reading's features           added    a probe on raw's and this one's

Gold kept is at shares of the tokens; AUC is the mean over questions of a gold unit above another;
MRR is of the best-ranked gold passage, a passage ranking by its best unit; answerability is the
AUROC of a question's best score, over questions with and without an answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tamis.compressors.method import best_unit_scores
from tamis.probes.probing.heads import Head
from tamis_lab.bench.evidence.tally import kept_gold_flags
from tamis_lab.bench.readings.cases import ReadingCase
from tamis_lab.bench.readings.fits import out_of_fold_scores
from tamis_lab.datasets.record_files import ReportProgress
from tamis_lab.datasets.records import gold_spans
from tamis_lab.datasets.statistics import paired_bootstrap
from tamis_lab.train.fit import auc
from tamis_lab.train.probe.figures import fill_token_share

RAW = "raw"
CALIBRATED = "raw:less_empty=true"
COLUMNS = ("plain", "heads", "probe", "added")
LEAST_ELSEWHERE = -0.005
"""What a row that enters the product may lose on a set at the lower end of its interval."""

Scores = list[Tensor]


def all_scores(
    cases: Sequence[ReadingCase],
    judged: Sequence[ReadingCase],
    names: Sequence[str],
    report: ReportProgress,
) -> dict[str, dict[str, Scores]]:
    """By reading and column, the scores of every judged case."""
    found: dict[str, dict[str, Scores]] = {}
    for done, name in enumerate(names, 1):
        pair = [RAW] if name == RAW else [RAW, name]
        probe = out_of_fold_scores(cases, judged, [name])
        found[name] = {
            "plain": [case.scores[name][:, 0] for case in judged],
            "heads": [case.scores[name][:, 1] for case in judged],
            "probe": probe,
            "added": probe if name == RAW else out_of_fold_scores(cases, judged, pair),
        }
        report("probes", done, len(names))
    return found


def head_scores(
    judged: Sequence[ReadingCase], profiles: Mapping[str, Sequence[Head]], heads: int
) -> dict[str, dict[str, Scores]]:
    """Unfitted scores of calibrated attention by the best heads of each profile.

    From the features of raw attention and of the same less "N/A", which are logarithms of means.

    Args:
        heads: in a layer of the model.
    """
    found: dict[str, dict[str, Scores]] = {}
    for by, best in profiles.items():
        at = torch.tensor([layer * heads + head for layer, head in best])
        scores = []
        for case in judged:
            logs, less = case.features[RAW][:, at], case.features[CALIBRATED][:, at]
            scores.append((logs.exp() - (logs - less).exp()).mean(1))
        found[f"heads by {by}"] = {"heads": scores}
    return found


def kept_gold(case: ReadingCase, scores: Tensor, share: float) -> int:
    """How many gold sentences are kept at a share of the tokens."""
    spans: list[list[tuple[int, int]]] = [[] for _ in case.record["docs"]]
    for u in fill_token_share(scores, case.tokens, share):
        spans[case.units[u].passage].append(case.units[u].visible)
    return sum(kept_gold_flags(case.record, spans))


def reciprocal_rank(case: ReadingCase, scores: Tensor) -> float:
    """1 over the rank of the first passage with gold."""
    passages = best_unit_scores(scores.tolist(), case.units, len(case.record["docs"]))
    gold = {d for d, _, _ in gold_spans(case.record)}
    order = sorted(range(len(passages)), key=lambda d: (-passages[d], d))
    return 1 / (1 + next(i for i, d in enumerate(order) if d in gold))


def set_figures(
    cases: Sequence[ReadingCase],
    scores: Mapping[str, Mapping[str, Scores]],
    shares: Sequence[float],
    seed: int,
) -> dict[str, Any]:
    """The figures of one set: by reading and column, each against raw in the same column."""
    of = [len(gold_spans(case.record)) for case in cases]
    kept = {
        (name, column, share): [kept_gold(c, s, share) for c, s in zip(cases, found, strict=True)]
        for name, columns in scores.items()
        for column, found in columns.items()
        for share in shares
    }
    rows: dict[str, Any] = {}
    for name, columns in scores.items():
        rows[name] = {
            column: {
                "kept": {f"{x:g}": round(sum(kept[name, column, x]) / sum(of), 4) for x in shares},
                "ahead_of_raw": {
                    f"{x:g}": _round_figures(
                        paired_bootstrap(kept[name, column, x], kept[RAW, column, x], of, seed=seed)
                    )
                    for x in shares
                },
                "auc": round(_mean_auc(cases, found), 4),
                "mrr": round(float(np.mean(list(map(reciprocal_rank, cases, found)))), 4),
            }
            for column, found in columns.items()
        }
    return {"questions": len(cases), "gold_sentences": sum(of), "rows": rows}


def _round_figures(figures: Sequence[float]) -> list[float]:
    return [round(figure, 4) for figure in figures]


def _mean_auc(cases: Sequence[ReadingCase], scores: Scores) -> float:
    each = [
        auc(s.double().numpy(), case.gold.double().numpy())
        for case, s in zip(cases, scores, strict=True)
        if case.gold.any() and not case.gold.all()
    ]
    return float(np.mean(each))


def answerability(
    cases: Sequence[ReadingCase], scores: Mapping[str, Mapping[str, Scores]]
) -> dict[str, dict[str, float]]:
    """AUROC of the best score of a question, with an answer against without."""
    answered = np.array([float(case.record.get("answerable", True)) for case in cases])
    return {
        name: {
            column: round(auc(np.array([float(s.max()) for s in found]), answered), 4)
            for column, found in columns.items()
        }
        for name, columns in scores.items()
    }


def entering_rows(sets: Mapping[str, Any]) -> dict[str, list[str]]:
    """Which readings beat raw once added to it, and on which sets and shares.

    On one set the interval is above 0, on all others above -.5 points, at the same share.
    """
    names = next(iter(sets.values()))["rows"]
    found: dict[str, list[str]] = {}
    for name in names:
        for share in next(iter(names[RAW].values()))["kept"]:
            lows = {
                source: of["rows"][name]["added"]["ahead_of_raw"][share][1]
                for source, of in sets.items()
                if "added" in of["rows"][name]
            }
            best = [source for source, low in lows.items() if low > 0]
            if best and all(low > LEAST_ELSEWHERE for low in lows.values()):
                found.setdefault(name, []).append(f"{share}: {', '.join(best)}")
    return found
