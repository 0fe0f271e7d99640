"""Figures of a table from rows: evidence and time of each peer, and ratios with intervals."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tamis_lab.bench.peers.cases import PeerCase
from tamis_lab.bench.peers.registry import Peer, PeerRegistry
from tamis_lab.bench.peers.run import row_key
from tamis_lab.datasets.statistics import DRAWS, paired_bootstrap

MeasuredRow = Mapping[str, Any]


def peer_figures(
    cases: Sequence[PeerCase],
    peers: Sequence[Peer],
    rows: Sequence[MeasuredRow],
    registry: PeerRegistry,
    seed: int = 0,
) -> dict[str, Any]:
    """Figures of one set, for each peer.

    Args:
        cases: of the set. rows: of any run; those of other cases are left out.
        registry: times are divided by those of its reference, and evidence is compared with it.
    """
    by_key = {row["key"]: row for row in rows}
    by_peer = {
        peer.name: [by_key[key] for case in cases if (key := row_key(case, peer)) in by_key]
        for peer in peers
    }
    base = by_peer.get(registry.reference, [])
    summaries = {
        peer.name: _peer_summary(peer, own) | _compare_with_reference(base, own, seed)
        for peer in peers
        if (own := by_peer[peer.name])
    }
    return {
        "cases": len(cases),
        "mean_tokens_in": statistics.fmean(case.tokens for case in cases),
        "mean_budget_tokens": statistics.fmean(case.budget_tokens for case in cases),
        "peers": summaries,
        "frontier": frontier(summaries),
    }


def complete_cases(
    cases: Sequence[PeerCase], peers: Sequence[Peer], rows: Sequence[MeasuredRow]
) -> list[PeerCase]:
    """The cases for which every peer has a row, failed ones included."""
    keys = {row["key"] for row in rows}
    return [case for case in cases if all(row_key(case, peer) in keys for peer in peers)]


def _peer_summary(peer: Peer, rows: Sequence[MeasuredRow]) -> dict[str, Any]:
    """Figures of one peer; failed cases are counted and left out of means."""
    identity = {"label": peer.label, "ours": peer.ours}
    done = [row for row in rows if "error" not in row]
    errors = {"cases": len(rows), "errors": len(rows) - len(done)}
    if not done:
        return identity | errors
    ms = [row["ms"] for row in done]
    answers = [row["answer"] for row in done if row["answer"] is not None]
    return (
        identity
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


def _compare_with_reference(
    base: Sequence[MeasuredRow], rows: Sequence[MeasuredRow], seed: int
) -> dict[str, Any]:
    """Ratios of times, and differences in evidence, over the cases that neither peer failed."""
    by_case = {row["case"]: row for row in base if "error" not in row}
    pairs = [(by_case[r["case"]], r) for r in rows if "error" not in r and r["case"] in by_case]
    if not pairs:
        return {}
    ahead = paired_bootstrap(
        [reference["evidence"] for reference, _ in pairs],
        [row["evidence"] for _, row in pairs],
        [1.0] * len(pairs),
        seed=seed,
    )
    return {
        "times_reference_ms": _time_ratio("ms", pairs, seed),
        "times_reference_cpu_ms": _time_ratio("cpu_ms", pairs, seed),
        "reference_evidence_ahead": dict(zip(("difference", "low", "high"), ahead, strict=True)),
    }


def _time_ratio(
    clock: str, pairs: Sequence[tuple[MeasuredRow, MeasuredRow]], seed: int
) -> dict[str, float]:
    """The ratio of times by one of the two clocks, `ms` or `cpu_ms`."""
    theirs, reference = [row[clock] for _, row in pairs], [row[clock] for row, _ in pairs]
    interval = ratio_of_medians(theirs, reference, seed=seed)
    return dict(zip(("ratio", "low", "high"), interval, strict=True))


def ratio_of_medians(
    nums: Sequence[float], dens: Sequence[float], draws: int = DRAWS, seed: int = 0
) -> tuple[float, float, float]:
    """`median(nums) / median(dens)` and its 95 % bootstrap interval over cases.

    Args:
        nums, dens: one number per case, of the same cases: `[C]`.
    """
    pairs = np.array([nums, dens], dtype=np.float64)
    drawn = np.random.default_rng(seed).integers(0, pairs.shape[1], (draws, pairs.shape[1]))
    over, under = np.median(pairs[:, drawn], axis=2)
    low, high = np.percentile(over / under, (2.5, 97.5))
    ratio = np.median(pairs[0]) / np.median(pairs[1])
    return float(ratio), float(low), float(high)


def frontier(peers: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The peers that keep more evidence than every faster one, from the fastest on."""
    best, on_frontier = -1.0, []
    timed = [name for name, of in peers.items() if "ms_p50" in of]
    for name in sorted(timed, key=lambda n: (peers[n]["ms_p50"], -peers[n]["evidence"])):
        if peers[name]["evidence"] > best:
            best = peers[name]["evidence"]
            on_frontier.append(name)
    return on_frontier
