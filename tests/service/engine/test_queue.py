"""The queue before the model: bounded, fair, and emptied in batches."""

from __future__ import annotations

import math
import threading
import time

import pytest

from tamis.probes.prompt import PassageTokens, Prompt, QuestionTokens
from tamis.probes.signal import Want
from tamis.service.engine import queue
from tamis.service.engine import request as request_module
from tamis.service.engine.errors import Overloaded, TooLong, Unavailable
from tamis.service.engine.queue import RequestQueue
from tamis.service.engine.request import PromptJob, QueuedRequest
from tests.scripted import ScriptedReader


class Clock:
    """A clock that stands still until a test lets it go on: no busy machine adds to it."""

    def __init__(self) -> None:
        self.now = time.monotonic()

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for module in (queue, request_module):
        monkeypatch.setattr(module, "time", made)
    return made


WANT = Want((0, 1))
TEMPLATE = ScriptedReader.from_needles("b").layout.template


def job(request: QueuedRequest, tokens: int) -> PromptJob:
    prompt = Prompt(PassageTokens(tuple(range(tokens)), 0, ()), QuestionTokens((1,), 0))
    return PromptJob(request, prompt, WANT, TEMPLATE, tokens, None)


def take_batch(request_queue: RequestQueue, batch_tokens: int) -> list[tuple[QueuedRequest, int]]:
    return [(job.request, job.tokens) for job in request_queue.take(batch_tokens)]


def test_the_queue_is_bounded_in_tokens_and_says_how_long_to_wait():
    request_queue = RequestQueue(1000, 100)
    request_queue.record_speed(100, 1.0)
    request_queue.admit(800)
    with pytest.raises(Overloaded) as refused:
        request_queue.admit(700)
    assert refused.value.retry_after_s == pytest.approx(5.0)  # 500 tokens over, 100 a second
    assert request_queue.load().tokens == 800


def test_requests_are_bounded_in_number_too():
    request_queue = RequestQueue(1000, 2)
    request_queue.admit(0), request_queue.admit(0)
    with pytest.raises(Overloaded):
        request_queue.admit(0)


def test_one_request_larger_than_the_queue_is_served_when_nothing_else_is_there():
    request_queue = RequestQueue(1000, 100)
    big = request_queue.admit(5000)
    with pytest.raises(Overloaded):
        request_queue.admit(1)
    request_queue.remove(big)
    request_queue.admit(1)


def test_a_removed_request_releases_all_its_tokens():
    request_queue = RequestQueue(1000, 100)
    request = request_queue.admit(100)
    request_queue.put(request, [job(request, 300), job(request, 200)])
    assert request_queue.load().tokens == 500
    request_queue.finish(request_queue.take(300)[0])
    assert request_queue.load().tokens == 200
    request_queue.remove(request)
    assert request_queue.load().tokens == 0


def test_a_short_request_overtakes_a_long_one_and_a_batch_is_the_longest_it_waits():
    request_queue = RequestQueue(100_000, 100)
    long = request_queue.admit(10_000)
    request_queue.put(long, [job(long, 500) for _ in range(20)])
    assert take_batch(request_queue, 1000) == [(long, 500)] * 2
    short = request_queue.admit(300)
    request_queue.put(short, [job(short, 300)])
    assert take_batch(request_queue, 1000) == [(short, 300), (long, 500)]


def test_a_long_request_is_not_overtaken_for_ever(clock: Clock):
    request_queue = RequestQueue(100_000, 1000)
    request_queue.record_speed(1_000_000, 1.0)  # 10,000 tokens are due 40 ms after they came
    long = request_queue.admit(10_000)
    request_queue.put(long, [job(long, 500)])
    clock.sleep(0.06)
    for _ in range(10):
        short = request_queue.admit(300)
        request_queue.put(short, [job(short, 300)])
    assert take_batch(request_queue, 500)[0] == (long, 500)


def test_priority_goes_before_due():
    request_queue = RequestQueue(100_000, 100)
    patient, urgent = request_queue.admit(10, priority=5), request_queue.admit(10_000, priority=0)
    request_queue.put(patient, [job(patient, 10)])
    request_queue.put(urgent, [job(urgent, 400)])
    assert take_batch(request_queue, 400) == [(urgent, 400)]


def test_batches_are_filled_over_requests_and_never_beyond_their_size():
    request_queue = RequestQueue(100_000, 100)
    for tokens in (400, 400, 150, 90):
        request = request_queue.admit(tokens)
        request_queue.put(request, [job(request, tokens)])
    sizes = [tokens for _, tokens in take_batch(request_queue, 1000)]
    assert sum(sizes) <= 1000
    assert len(sizes) == 3


def test_a_prompt_larger_than_a_batch_is_a_batch_of_its_own():
    request_queue = RequestQueue(100_000, 100)
    request = request_queue.admit(10)
    request_queue.put(request, [job(request, 5000), job(request, 10)])
    assert take_batch(request_queue, 100) == [(request, 5000)]


def test_jobs_of_a_removed_request_are_never_read():
    request_queue = RequestQueue(100_000, 100)
    gone, there = request_queue.admit(10), request_queue.admit(10)
    request_queue.put(gone, [job(gone, 10)])
    request_queue.put(there, [job(there, 10)])
    request_queue.remove(gone)
    assert take_batch(request_queue, 100) == [(there, 10)]


def test_a_closed_queue_admits_nobody_and_hands_out_what_is_left():
    request_queue = RequestQueue(1000, 10)
    request = request_queue.admit(10)
    request_queue.put(request, [job(request, 10)])
    request_queue.close()
    with pytest.raises(Unavailable):
        request_queue.admit(1)
    assert take_batch(request_queue, 100) == [(request, 10)]
    request_queue.put(request, [job(request, 10)])  # it reads a second time
    assert take_batch(request_queue, 100) == [(request, 10)]
    assert not request_queue.is_finished
    request_queue.remove(request)
    assert request_queue.is_finished
    assert request_queue.take(100) == []


def test_promises_come_one_after_another_and_are_kept_from_others(clock: Clock):
    request_queue = RequestQueue(200, 100)
    request_queue.record_speed(100, 1.0)
    reading = request_queue.admit(300)

    def wait_s(tokens: int, key: int | None) -> float:
        with pytest.raises(Overloaded) as refused:
            request_queue.admit(tokens, key=key)
        return refused.value.retry_after_s or 0.0

    assert [wait_s(100, key) for key in (1, 2, 3)] == pytest.approx([2.0, 3.0, 4.0])
    clock.sleep(0.5)
    assert wait_s(100, 1) == pytest.approx(1.5)  # the same as before
    request_queue.remove(reading)
    clock.sleep(1.25)
    assert wait_s(126, None) > 0  # a quarter of a second before 100 tokens are promised
    request_queue.remove(request_queue.admit(100))
    clock.sleep(0.25)
    request_queue.remove(request_queue.admit(200, key=1))  # of its own, no room is taken
    clock.sleep(60.0)
    request_queue.admit(200)  # nobody came


def test_an_empty_queue_does_not_give_away_the_room_that_was_promised(clock: Clock):
    request_queue = RequestQueue(100_000, 100)
    request_queue.record_speed(1000, 1.0)
    first = request_queue.admit(3000, limit_s=6.0, key=1)
    with pytest.raises(Overloaded) as refused:
        request_queue.admit(3000, limit_s=6.0, key=2)
    assert refused.value.retry_after_s == pytest.approx(2.7, abs=0.1)  # 6,000 of 3,300 tokens
    request_queue.remove(first)
    small = request_queue.admit(1000, limit_s=6.0, key=3)  # read before the promise comes due
    request_queue.remove(small)
    with pytest.raises(Overloaded):  # it would still be read by then
        request_queue.admit(4000, limit_s=6.0, key=4)
    clock.sleep(3.0)
    request_queue.admit(3000, limit_s=6.0, key=2)


def test_those_who_never_come_back_keep_nobody_from_an_idle_model(clock: Clock):
    request_queue = RequestQueue(100_000, 100)
    request_queue.record_speed(1000, 1.0)
    slow = request_queue.admit(30_000, limit_s=60.0, key=0)
    waits = []
    for key in range(1, 2000):  # each with another body, and none comes back
        with pytest.raises(Overloaded) as refused:
            request_queue.admit(30_000, limit_s=60.0, key=key)
        waits.append(refused.value.retry_after_s or 0.0)
    assert max(waits) < 200.0
    request_queue.remove(slow)
    for key in range(-60, 0):  # nothing is read: others are served, one after another
        request_queue.remove(request_queue.admit(10_000, limit_s=60.0, key=key))
        clock.sleep(1.0)
    clock.sleep(200.0)
    request_queue.admit(59_000, limit_s=60.0, key=-99)


def test_before_a_batch_was_read_little_is_admitted():
    """Nobody knows the rate yet: what is admitted is read in time by a slow machine, too."""
    request_queue = RequestQueue(100_000, 100)
    request_queue.admit(5000, limit_s=60.0)
    with pytest.raises(Overloaded) as refused:
        request_queue.admit(8000, limit_s=60.0, key=1)
    assert refused.value.retry_after_s > 1
    request_queue.record_speed(1000, 0.5)
    request_queue.admit(8000, limit_s=60.0, key=1)


def test_what_cannot_be_read_within_its_limit_is_refused_for_good_with_the_figures(clock: Clock):
    request_queue = RequestQueue(100_000, 100)
    request_queue.record_speed(1000, 1.0)
    request_queue.longest_s = 5.0
    long = request_queue.admit(10, limit_s=5.0)  # the estimate was much too low
    with pytest.raises(TooLong, match=r"6,000 tokens to read, which takes 6 s at 1,000 tokens"):
        request_queue.put(long, [job(long, 6000)])
    request_queue.remove(long)
    patient = request_queue.admit(10, deadline=clock.now + 1, limit_s=5.0)
    request_queue.put(patient, [job(patient, 6000)])  # it is answered with what was read by then


def test_what_cannot_be_read_at_the_present_rate_may_come_back():
    request_queue = RequestQueue(100_000, 100)
    request_queue.record_speed(1000, 1.0)
    for _ in range(8):
        request_queue.record_speed(100, 1.0)
    long = request_queue.admit(10, limit_s=5.0)
    with pytest.raises(Overloaded, match="at present"):
        request_queue.put(long, [job(long, 3000)])


def test_a_request_that_expires_unread_is_told_when_to_come_back():
    request_queue = RequestQueue(100_000, 100)
    request_queue.record_speed(1000, 1.0)
    unread = request_queue.admit(500, limit_s=5.0)
    late = request_queue.late_error(unread)
    assert late is not None
    assert late.retry_after_s >= 0
    request_queue.put(unread, [job(unread, 500)])
    request_queue.finish(request_queue.take(1000)[0])
    assert request_queue.late_error(unread) is None


def test_who_comes_back_when_told_to_may_use_all_of_the_time(clock: Clock):
    request_queue = RequestQueue(100_000, 100)
    request_queue.record_speed(1000, 1.0)
    request_queue.admit(4000, limit_s=6.0, key=1)
    with pytest.raises(Overloaded) as refused:
        request_queue.admit(1500, limit_s=6.0, key=2)
    clock.sleep(math.ceil(refused.value.retry_after_s))
    with pytest.raises(Overloaded):  # nothing was read meanwhile, and 4,800 are the most
        request_queue.admit(1500, limit_s=6.0, key=3)
    request_queue.admit(1500, limit_s=6.0, key=2)


def test_requests_that_cannot_be_read_in_time_any_more_are_ended_at_once():
    """The model becomes slow: those at the end of the queue need not wait for their limit."""
    request_queue = RequestQueue(100_000, 100)
    for _ in range(5):
        request_queue.record_speed(1000, 0.1)
    admitted = [request_queue.admit(2000, limit_s=5.0, key=key) for key in range(8)]
    for request in admitted:
        request_queue.put(request, [job(request, 2000)])
    for _ in range(5):
        request_queue.record_speed(1000, 1.0)
    ended = [request for request in admitted if request.fault is not None]
    assert ended == admitted[len(admitted) - len(ended) :]
    assert 0 < len(ended) < len(admitted)
    assert min(request.fault.retry_after_s for request in ended) > 5  # when others are read
    assert request_queue.load().tokens == 2000 * (len(admitted) - len(ended))
    with pytest.raises(Overloaded):
        ended[0].check_time()


def test_a_request_with_a_deadline_is_answered_then_and_never_ended_before(clock: Clock):
    request_queue = RequestQueue(100_000, 100)
    request_queue.record_speed(1000, 0.1)
    patient = request_queue.admit(2000, deadline=clock.now + 1, limit_s=5.0)
    request_queue.put(patient, [job(patient, 50_000)])
    for _ in range(5):
        request_queue.record_speed(1000, 1.0)
    assert patient.fault is None


def test_a_batch_that_its_worker_never_finished_slows_nobody_down_once_there_is_another_worker(
    clock: Clock,
):
    request_queue = RequestQueue(100_000, 100)
    request_queue.record_speed(1000, 1.0)
    lost = request_queue.admit(10, limit_s=5.0)
    request_queue.put(lost, [job(lost, 10)])
    request_queue.take(1000)  # by a worker that dies
    request_queue.remove(lost)
    clock.sleep(0.2)
    taken: list[PromptJob] = []
    another = threading.Thread(target=lambda: taken.extend(request_queue.take(2000)), daemon=True)
    another.start()
    clock.sleep(0.1)
    request = request_queue.admit(1000, limit_s=5.0)
    request_queue.put(request, [job(request, 1000)])
    another.join(10)
    assert [one.request for one in taken] == [request]
