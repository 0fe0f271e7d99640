"""The measured rate: slow at once where the machine is, fast again only after a while."""

from __future__ import annotations

import time

import pytest

from tamis.service.engine.queue import UNKNOWN_RATE, ReadingRate


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
