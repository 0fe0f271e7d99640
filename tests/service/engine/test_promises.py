"""The measured rate: slow at once where the machine is, fast again only after a while. Promises."""

from __future__ import annotations

import time

import pytest

from tamis.service.engine.queue import UNKNOWN_RATE, Promises, ReadingRate


def test_a_rate_is_a_low_guess_until_a_batch_was_read():
    rate = ReadingRate()
    rate.begin(1_000_000)
    assert rate.current == rate.average == UNKNOWN_RATE
    assert not rate.is_known


def test_a_slow_batch_counts_at_once_and_a_fast_one_by_and_by():
    rate = ReadingRate()
    for _ in range(20):
        rate.record(1000, 1.0)
    assert rate.current == pytest.approx(1000)
    for _ in range(2):
        rate.record(100, 1.0)
    assert rate.current <= 125 < rate.average
    rate.record(1000, 1.0)
    assert rate.current < 750  # the latest two batches are 1,100 tokens in two seconds
    for _ in range(20):
        rate.record(1000, 1.0)
    assert rate.current == pytest.approx(1000, rel=0.05)


def test_a_batch_that_takes_long_counts_before_it_is_read():
    rate = ReadingRate()
    rate.record(1000, 0.001)
    rate.begin(10)
    time.sleep(0.05)
    assert rate.current < 1.25 * 10 / 0.05 + 1
    assert rate.average == pytest.approx(1e6)
    rate.record(1000, 0.001)
    assert rate.current == pytest.approx(1e6)


def test_the_best_rate_is_remembered_for_a_while():
    rate = ReadingRate()
    rate.record(1000, 1.0)
    for _ in range(10):
        rate.record(10, 1.0)
    assert 700 < rate.best < 1000


def test_promises_come_one_after_another_and_are_kept_from_others():
    promises = Promises()
    # 100 tokens a second, at most 200 in the queue, and 300 are there
    waits = [promises.make(key, 100, 300, 200, 100, 0.0, 60.0, now=0.0) for key in (1, 2, 3)]
    assert waits == [2.0, 3.0, 4.0]
    assert promises.make(1, 100, 300, 200, 100, 0.0, 60.0, now=0.5) == 1.5  # the same as before
    assert promises.fits(300, 200, 100, None, now=0.0)
    assert not promises.fits(301, 200, 100, None, now=0.0)
    assert promises.fits(400, 200, 100, 1, now=0.0)  # of its own, no room is taken
    assert not promises.is_due(1, now=1.9)
    assert promises.is_due(1, now=2.0)
    assert not promises.is_due(None, now=9.0)
    promises.redeem(1)
    assert not promises.is_due(1, now=2.0)
    assert promises.fits(10_000, 200, 100, None, now=60.0)  # nobody came
