"""Requests a second on more cores: the split of a request's time, and the queue."""

from __future__ import annotations

import json
import random
import statistics

import pytest

from tamis_lab.bench.cores import Split, latencies, simulate
from tests.service.cli.cli_kit import tamis


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_the_split_is_that_of_the_times(share):
    drawn = random.Random(0)
    alone = [drawn.uniform(1, 2) for _ in range(9)]
    made = Split(share, 0.8)
    shared = [made.seconds(one, 2) for one in alone]
    found = Split.from_times(alone, shared, 2, [[one / 0.8 for one in alone]] * 2)
    assert found.serial_share == pytest.approx(share)
    assert found.kept_speed == pytest.approx(0.8)


def test_one_server_waits_as_long_as_theory_says():
    """Pollaczek and Khinchine: constant times at a load of a half wait half a time more."""
    found = latencies([1.0], servers=1, per_s=0.5, arrivals=200_000)
    assert statistics.mean(found) == pytest.approx(1.5, rel=0.02)
    assert min(found) == pytest.approx(1.0)
    assert statistics.mean(latencies([1.0], 4, 2.0, 50_000)) < 1.2


def test_with_one_core_both_ways_are_one_and_with_more_the_copies_answer_more():
    split, alone = Split(0.3, 0.9), [1.0, 1.2, 0.8]
    one = simulate(split, alone, 1, 0.7)
    assert one["process"] == one["copies"]
    for cores in (4, 16):
        found = simulate(split, alone, cores, 0.7)
        assert found["process"]["per_s"] == pytest.approx(1 / (0.3 + 0.7 / cores))
        assert found["copies"]["per_s"] == pytest.approx(0.9 * cores)
        assert found["process"]["p50_ms"] < found["copies"]["p50_ms"] or cores == 4


def test_the_command_measures_and_simulates():
    words = "--requests 1 --tokens 200 --passage-tokens 60 --cores 1,4 --json".split()
    done = tamis("lab", "bench", "cores", *words)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert set(found["cores"]) == {"1", "4"}
    assert 0 <= found["serial_share"] <= 1
    assert found["cores"]["4"]["copies"]["per_s"] >= found["cores"]["1"]["copies"]["per_s"]
    refused = tamis("lab", "bench", "cores", "--load", "1")
    assert (refused.exit_code, "above 0 and below 1" in refused.stderr) == (2, True)
