"""From rows to figures: ratios with intervals, the frontier, failures that are counted."""

from __future__ import annotations

import pytest

from lab.tests.peers.kit import people_cases
from tamis_lab.bench.peer_process import PEERS_FOLDER, PeerRegistry
from tamis_lab.bench.peers import complete_cases, frontier, peer_figures, ratio_of_medians, row_key


def row(case, peer, ms, evidence, **more):
    return {
        "key": row_key(case, peer),
        "case": case.id,
        "peer": peer.name,
        "tokens_in": case.tokens,
        "tokens_out": case.budget_tokens,
        "budget_tokens": case.budget_tokens,
        "ms": ms,
        "cpu_ms": ms / 2,
        "peak_mib": 100.0,
        "evidence": evidence,
        "all": evidence == 1,
        "words": evidence,
        "answer": True,
        "versions": {},
    } | more


def test_a_ratio_of_medians_with_an_interval_that_holds_it():
    ours = [10.0, 11.0, 12.0, 13.0, 50.0]
    assert ratio_of_medians(ours, ours)[0] == 1.0
    ratio, low, high = ratio_of_medians([3 * ms for ms in ours], ours)
    assert (ratio, low, high) == pytest.approx((3.0, 3.0, 3.0))
    ratio, low, high = ratio_of_medians([20.0, 90.0, 30.0, 10.0, 70.0], ours)
    assert low < ratio < high


def test_figures_compare_cases_that_both_peers_ran_and_count_the_others(tmp_path):
    registry, cases = PeerRegistry.load(PEERS_FOLDER), people_cases(tmp_path, 3)
    tamis, bm25 = registry.select(["tamis", "bm25"])
    rows = [row(case, tamis, 100.0, 1.0) for case in cases]
    rows += [row(case, bm25, 20.0, 0.5) for case in cases[:2]]
    rows += [
        {
            "key": row_key(cases[2], bm25),
            "case": cases[2].id,
            "peer": "bm25",
            "error": "it fell over",
        }
    ]
    rows += [row(cases[0], bm25, 9e9, 0.0) | {"key": "of another run"}]
    found = peer_figures(cases, [tamis, bm25], rows, registry)
    theirs = found["peers"]["bm25"]
    assert (theirs["cases"], theirs["errors"], theirs["evidence"]) == (3, 1, 0.5)
    assert theirs["times_reference_ms"]["ratio"] == pytest.approx(0.2)
    assert theirs["reference_evidence_ahead"]["difference"] == pytest.approx(0.5)
    assert found["frontier"] == ["bm25", "tamis"]
    assert theirs["kept"] == pytest.approx(0.25, abs=0.03)


def test_no_peer_on_the_frontier_keeps_less_than_a_faster_one():
    peers = {
        name: {"ms_p50": ms, "evidence": kept}
        for name, ms, kept in (("d", 9, 0.9), ("a", 1, 0.5), ("b", 2, 0.4), ("c", 3, 0.7))
    } | {"failed": {}}
    assert frontier(peers) == ["a", "c", "d"]


def test_only_cases_that_all_peers_have_run_are_shown_failed_ones_too(tmp_path):
    registry, cases = PeerRegistry.load(PEERS_FOLDER), people_cases(tmp_path, 3)
    tamis, bm25 = registry.select(["tamis", "bm25"])
    rows = [row(case, tamis, 100.0, 1.0) for case in cases] + [row(cases[0], bm25, 1.0, 1.0)]
    rows += [
        {
            "key": row_key(cases[2], bm25),
            "case": cases[2].id,
            "peer": "bm25",
            "error": "it fell over",
        }
    ]
    assert complete_cases(cases, [tamis, bm25], rows) == [cases[0], cases[2]]
    assert complete_cases(cases, [tamis], rows) == cases
