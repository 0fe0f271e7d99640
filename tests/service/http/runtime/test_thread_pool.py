"""Work in Python waits for one of few threads, and is refused where it would wait too long."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time

import pytest

from tamis.service.engine.errors import Overloaded, Refused, Unavailable
from tamis.service.http.runtime import executor
from tamis.service.http.runtime.executor import BoundedPool, request_bytes
from tests.service.http.app_kit import hold_until_end, served, wait_until


async def run_and_refuse(limit_s: float, most: int, waiting: int) -> float:
    """What a pool says to one piece more, after one that took a tenth of a second."""
    pool = BoundedPool(1, "test", most)
    request_bytes.set(90_000)  # a hundred thousand with the overhead: a megabyte a second
    with contextlib.closing(pool), hold_until_end() as end:
        await pool.submit(lambda: threading.Event().wait(0.1), limit_s)
        for _ in range(waiting):
            pool.submit(end.wait, 60.0)
        with pytest.raises(Overloaded) as refused:
            pool.submit(end.wait, limit_s)
        return refused.value.retry_after_s


def test_more_pieces_than_the_most_are_refused():
    assert asyncio.run(run_and_refuse(60.0, 3, 3)) > 0


def test_work_that_would_be_done_too_late_is_refused_with_the_time_until_it_is_not():
    """Twenty pieces wait, for at least two seconds: one more is not done within one."""
    retry_after_s = asyncio.run(run_and_refuse(1.0, 100, 20))
    assert 1.0 < retry_after_s < 100


def test_work_that_nothing_stands_before_is_taken_whatever_its_size():
    async def run() -> str:
        pool = BoundedPool(1, "test", 1)
        await pool.submit(lambda: threading.Event().wait(0.05), 1.0)
        request_bytes.set(10**9)
        return await pool.submit(lambda: "done", 0.5)

    assert asyncio.run(run()) == "done"


def test_work_that_is_cancelled_before_it_begins_never_begins():
    begun = []

    async def run() -> None:
        pool = BoundedPool(1, "test", 9)
        with hold_until_end() as end:
            first = pool.submit(end.wait, 60.0)
            second = pool.submit(lambda: begun.append(1), 60.0)
            second.cancel()
            await asyncio.sleep(0)  # the loop tells the thread's future
            with contextlib.suppress(asyncio.CancelledError):
                await second
        await first
        await pool.submit(lambda: None, 60.0)

    asyncio.run(run())
    assert begun == []


def test_a_closed_pool_refuses_and_counts_nothing():
    async def run() -> int:
        pool = BoundedPool(1, "test", 9)
        pool.close()
        with pytest.raises(Unavailable):
            pool.submit(lambda: None, 60.0)
        return pool.pieces

    assert asyncio.run(run()) == 0


def test_a_service_whose_compute_threads_are_all_stuck_says_so_at_livez(monkeypatch):
    """Work that ends by itself, or of which a thread is left, says nothing."""
    monkeypatch.setattr(executor, "_STUCK_S", 0.2)
    with served(method="lexical", timeout_s=0.3) as service, hold_until_end() as end:

        def occupy(many: int) -> None:
            work = service.service_state.executor
            for _ in range(many):
                with pytest.raises(Refused):
                    asyncio.run_coroutine_threadsafe(
                        work.run(lambda _: end.wait()), service.event_loop
                    ).result(30)

        occupy(3)
        time.sleep(0.4)
        assert service.http.get("/livez").status_code == 200
        occupy(1)
        wait_until(lambda: service.http.get("/livez").status_code == 503, 10)
        answer = service.http.get("/livez").json()["error"]["message"]
        assert "all 4 threads" in answer
        assert "restart the service" in answer
        assert service.http.head("/livez").status_code == 503
        end.set()
        wait_until(lambda: service.http.get("/livez").status_code == 200, 10)
