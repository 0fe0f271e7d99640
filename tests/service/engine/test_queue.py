"""The line before the model: bounded, fair, and emptied in batches."""

from __future__ import annotations

import time

import pytest

from tamis.probes.prompt import Ask, Prompt, Read
from tamis.probes.scripted import Scripted
from tamis.probes.signal import Want
from tamis.service.engine.errors import Overloaded, Unavailable
from tamis.service.engine.queue import Line
from tamis.service.engine.request import Job, Ticket

WANT = Want((0, 1))
TEMPLATE = Scripted.pointing_at("b").layout.template


def job(ticket: Ticket, tokens: int) -> Job:
    prompt = Prompt(Read(tuple(range(tokens)), 0, ()), Ask((1,), 0))
    return Job(ticket, prompt, WANT, TEMPLATE, tokens, None)


def taken(line: Line, batch_tokens: int) -> list[tuple[Ticket, int]]:
    return [(job.ticket, job.tokens) for job in line.take(batch_tokens)]


def test_the_line_is_bounded_in_tokens_and_says_how_long_to_wait():
    line = Line(1000, 100)
    line.rate = 100.0
    line.admit(800)
    with pytest.raises(Overloaded) as refused:
        line.admit(700)
    assert refused.value.retry_after_s == pytest.approx(5.0)  # 500 tokens over, 100 a second
    assert line.load().tokens == 800


def test_requests_are_bounded_in_number_too():
    line = Line(1000, 2)
    line.admit(0), line.admit(0)
    with pytest.raises(Overloaded):
        line.admit(0)


def test_one_request_larger_than_the_line_is_served_when_nothing_else_is_there():
    line = Line(1000, 100)
    big = line.admit(5000)
    with pytest.raises(Overloaded):
        line.admit(1)
    line.leave(big)
    line.admit(1)


def test_what_leaves_gives_back_all_it_held():
    line = Line(1000, 100)
    ticket = line.admit(100)
    line.put(ticket, [job(ticket, 300), job(ticket, 200)])
    assert line.load().tokens == 500
    line.finish(line.take(300)[0])
    assert line.load().tokens == 200
    line.leave(ticket)
    assert line.load().tokens == 0


def test_a_short_request_overtakes_a_long_one_and_a_batch_is_the_longest_it_waits():
    line = Line(100_000, 100)
    long = line.admit(10_000)
    line.put(long, [job(long, 500) for _ in range(20)])
    assert taken(line, 1000) == [(long, 500)] * 2
    short = line.admit(300)
    line.put(short, [job(short, 300)])
    assert taken(line, 1000) == [(short, 300), (long, 500)]


def test_a_long_request_is_not_overtaken_for_ever():
    line = Line(100_000, 1000)
    line.rate = 1e6  # a long request of 10,000 tokens is due 40 ms after it came
    long = line.admit(10_000)
    line.put(long, [job(long, 500)])
    time.sleep(0.06)
    for _ in range(10):
        short = line.admit(300)
        line.put(short, [job(short, 300)])
    assert taken(line, 500)[0] == (long, 500)


def test_priority_goes_before_due():
    line = Line(100_000, 100)
    patient, urgent = line.admit(10, priority=5), line.admit(10_000, priority=0)
    line.put(patient, [job(patient, 10)])
    line.put(urgent, [job(urgent, 400)])
    assert taken(line, 400) == [(urgent, 400)]


def test_batches_are_filled_over_requests_and_never_beyond_their_size():
    line = Line(100_000, 100)
    for tokens in (400, 400, 150, 90):
        ticket = line.admit(tokens)
        line.put(ticket, [job(ticket, tokens)])
    sizes = [tokens for _, tokens in taken(line, 1000)]
    assert sum(sizes) <= 1000
    assert len(sizes) == 3


def test_a_prompt_larger_than_a_batch_is_a_batch_of_its_own():
    line = Line(100_000, 100)
    ticket = line.admit(10)
    line.put(ticket, [job(ticket, 5000), job(ticket, 10)])
    assert taken(line, 100) == [(ticket, 5000)]


def test_jobs_of_a_request_that_left_are_never_read():
    line = Line(100_000, 100)
    gone, there = line.admit(10), line.admit(10)
    line.put(gone, [job(gone, 10)])
    line.put(there, [job(there, 10)])
    line.leave(gone)
    assert taken(line, 100) == [(there, 10)]


def test_a_closed_line_lets_nobody_in_and_hands_out_what_is_left():
    line = Line(1000, 10)
    ticket = line.admit(10)
    line.put(ticket, [job(ticket, 10)])
    line.close()
    with pytest.raises(Unavailable):
        line.admit(1)
    assert taken(line, 100) == [(ticket, 10)]
    assert line.take(100) == []
