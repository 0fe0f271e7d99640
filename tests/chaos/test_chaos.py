"""The fault tests in short, and that they detect faults: `make chaos` is the long form."""

from __future__ import annotations

import random
import sys

import numpy as np
import pytest

from tests.chaos import __main__ as chaos
from tests.chaos.flips import damage, damage_files
from tests.chaos.promise import FaultOutcome, Promise
from tests.chaos.small_requests import MOST_BYTES_A_REQUEST, fit_slope

SHORT = {
    "index-rot": 28,
    "cache-rot": 8,
    "probe-rot": 40,
    "patterns": 12,
    "worker": 2,
    "hang-up": 20,
    "garbage": 20,
    "overload": 32,
    "drain": 1,
}
"""The rest is tried in short beside what it tests: batches, writers of an index, kept passages. Who
comes back after a refusal is a matter of the machine's time, and is for `make chaos` alone."""


@pytest.mark.parametrize("name", SHORT)
def test_a_promise_is_kept_under_a_few_faults(name, tmp_path, one_thread):
    (promise,) = [one for one in chaos.PROMISES if one.name == name]
    outcome = promise.run(tmp_path, SHORT[name], random.Random(name))
    assert outcome.kept, (promise.claim, outcome)


def test_every_promise_has_a_statement_and_is_tried():
    assert all(len(one.claim.split()) > 4 and one.faults >= 30 for one in chaos.PROMISES)
    assert len({one.name for one in chaos.PROMISES}) == len(chaos.PROMISES)


@pytest.mark.parametrize(
    "outcome",
    [FaultOutcome(5, 4, 0), FaultOutcome(5, 5, 1), FaultOutcome(0, 0, 0)],
    ids=["not survived", "lost", "no fault"],
)
def test_a_promise_is_broken_by_one_fault_and_by_none(outcome):
    assert FaultOutcome(5, 5, 0).kept
    assert not outcome.kept


def test_one_broken_promise_fails_the_run_and_is_shown(monkeypatch, capsys):
    def bad(folder, faults, draw):
        raise AssertionError("the index is gone")

    good = Promise("good", "nothing", 3, lambda folder, faults, draw: FaultOutcome(3, 3, 0))
    monkeypatch.setattr(chaos, "PROMISES", (good, Promise("bad", "everything", 3, bad)))
    monkeypatch.setattr(sys, "argv", ["chaos"])
    assert chaos.main() == 1
    shown = capsys.readouterr().out
    assert "BROKEN" in shown
    assert "the index is gone" in shown
    monkeypatch.setattr(chaos, "PROMISES", (good,))
    assert chaos.main() == 0


def test_damage_that_nobody_notices_is_counted_as_lost(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(bytes(100))
    outcome = damage_files([file], 10, random.Random(0), lambda _: False)
    assert (outcome.survived, outcome.lost) == (0, 10)
    assert file.read_bytes() == bytes(100)


def test_damage_is_always_damage():
    draw = random.Random(1)
    assert all(damage(bytes(range(50)), draw) != bytes(range(50)) for _ in range(500))


@pytest.mark.parametrize(("leak", "flat"), [(0.0, True), (200.0, False)])
def test_a_leak_of_a_few_bytes_a_request_shows_in_the_slope(leak, flat):
    """Readings as a process gives them: pages of 4 kB, a warm-up, and noise that hangs together."""
    draw = np.random.default_rng(2)
    requests = np.arange(1, 101) * 1000
    noise = np.convolve(draw.normal(0, 40_000, 109), np.ones(10) / 10, "valid")
    rss = 3e8 + leak * requests + noise - 2e7 * np.exp(-requests / 4000)
    found = fit_slope(requests, (rss // 4096 * 4096).astype(int), draw)
    assert found.low <= leak <= found.high or abs(found.bytes_a_request - leak) < 10
    assert (found.high <= MOST_BYTES_A_REQUEST) is flat
