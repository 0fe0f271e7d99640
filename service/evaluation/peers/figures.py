"""From rows to the figures of a table: evidence against time, and how sure the ratios are."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tamis.service.datasets.statistics import DRAWS, paired_bootstrap
from tamis.service.evaluation.peers.cases import Case
from tamis.service.evaluation.peers.peers import Field, Peer
from tamis.service.evaluation.peers.run import key

Row = Mapping[str, Any]


def figures(
    cases: Sequence[Case], peers: Sequence[Peer], rows: Sequence[Row], field: Field, seed: int = 0
) -> dict[str, Any]:
    """Figures of one set, a peer each.

    Args:
        cases: of the set. rows: of any run; those of other cases are left out.
        field: its reference is the one that times are divided by, and evidence is compared with.
    """
    found = {row["key"]: row for row in rows}
    by_peer = {
        peer.name: [found[name] for case in cases if (name := key(case, peer)) in found]
        for peer in peers
    }
    base = by_peer.get(field.reference, [])
    shown = {
        peer.name: _of(peer, mine) | _against(base, mine, seed)
        for peer in peers
        if (mine := by_peer[peer.name])
    }
    return {
        "cases": len(cases),
        "mean_tokens_in": statistics.fmean(case.tokens for case in cases),
        "mean_budget_tokens": statistics.fmean(case.budget_tokens for case in cases),
        "peers": shown,
        "frontier": frontier(shown),
    }


def complete(cases: Sequence[Case], peers: Sequence[Peer], rows: Sequence[Row]) -> list[Case]:
    """The cases that every peer has a row of, failed ones included."""
    found = {row["key"] for row in rows}
    return [case for case in cases if all(key(case, peer) in found for peer in peers)]


def _of(peer: Peer, rows: Sequence[Row]) -> dict[str, Any]:
    """One peer: means leave failed cases out, and say how many those are."""
    said = {"label": peer.label, "ours": peer.ours}
    done = [row for row in rows if "error" not in row]
    errors = {"cases": len(rows), "errors": len(rows) - len(done)}
    if not done:
        return said | errors
    ms = [row["ms"] for row in done]
    answers = [row["answer"] for row in done if row["answer"] is not None]
    return (
        said
        | errors
        | {
            "evidence": statistics.fmean(row["evidence"] for row in done),
            "all": statistics.fmean(row["all"] for row in done),
            "words": statistics.fmean(row["words"] for row in done),
            "answer": statistics.fmean(answers) if answers else None,
            "answerable": len(answers),
            "kept": sum(row["tokens_out"] for row in done) / sum(row["tokens_in"] for row in done),
            "over_budget": sum(row["tokens_out"] > row["budget_tokens"] for row in done),
            "ms_p50": statistics.median(ms),
            "ms_p95": float(np.percentile(ms, 95)),
            "cpu_ms_p50": statistics.median(row["cpu_ms"] for row in done),
            "peak_mib": max(row["peak_mib"] for row in done),
            "versions": done[-1]["versions"],
        }
    )


def _against(base: Sequence[Row], rows: Sequence[Row], seed: int) -> dict[str, Any]:
    """How many times as long, and how much less evidence, over the cases that both did."""
    ours = {row["case"]: row for row in base if "error" not in row}
    pairs = [(ours[r["case"]], r) for r in rows if "error" not in r and r["case"] in ours]
    if not pairs:
        return {}
    ahead = paired_bootstrap(
        [our["evidence"] for our, _ in pairs],
        [r["evidence"] for _, r in pairs],
        [1.0] * len(pairs),
        seed=seed,
    )
    return {
        "times_reference_ms": _times("ms", pairs, seed),
        "times_reference_cpu_ms": _times("cpu_ms", pairs, seed),
        "reference_evidence_ahead": dict(zip(("difference", "low", "high"), ahead, strict=True)),
    }


def _times(clock: str, pairs: Sequence[tuple[Row, Row]], seed: int) -> dict[str, float]:
    """By one of the two clocks."""
    theirs, ours = [row[clock] for _, row in pairs], [row[clock] for row, _ in pairs]
    found = ratio_of_medians(theirs, ours, seed=seed)
    return dict(zip(("ratio", "low", "high"), found, strict=True))


def ratio_of_medians(
    nums: Sequence[float], dens: Sequence[float], draws: int = DRAWS, seed: int = 0
) -> tuple[float, float, float]:
    """`median(nums) / median(dens)` and its 95 % interval; cases are drawn with replacement.

    Args:
        nums, dens: one number a case, of the same cases: `[C]`.
    """
    pairs = np.array([nums, dens], dtype=np.float64)
    drawn = np.random.default_rng(seed).integers(0, pairs.shape[1], (draws, pairs.shape[1]))
    over, under = np.median(pairs[:, drawn], axis=2)
    low, high = np.percentile(over / under, (2.5, 97.5))
    ratio = np.median(pairs[0]) / np.median(pairs[1])
    return float(ratio), float(low), float(high)


def frontier(peers: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Those that no faster one keeps as much evidence as, from the fastest on."""
    best, found = -1.0, []
    timed = [name for name, of in peers.items() if "ms_p50" in of]
    for name in sorted(timed, key=lambda n: (peers[n]["ms_p50"], -peers[n]["evidence"])):
        if peers[name]["evidence"] > best:
            best = peers[name]["evidence"]
            found.append(name)
    return found
