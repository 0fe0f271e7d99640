"""Several worker processes on this machine, each with its own copy of the model."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any

from tamis.probes.errors import BadInput
from tamis.service.batch.execution.worker import Worker
from tamis.service.batch.job import Job
from tamis.service.batch.output import Plan, Receipt
from tamis.service.batch.plan import Part

if TYPE_CHECKING:
    from tamis.service.batch.run_options import RunOptions

_PARTS_AHEAD = 2
_here: dict[str, Worker] = {}


def receipts(
    job: Job, call: RunOptions, plan: Plan, parts: Sequence[Part], redo: bool
) -> Iterator[Receipt]:
    """The receipts of parts, as they are done.

    Raises:
        BadInput: as a worker does, or a worker was killed.
    """
    told = (job.as_dict(), plan, call.out, call.stop_on_error, redo, threads(call.workers))
    pool = ProcessPoolExecutor(
        min(call.workers, len(parts)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start,
        initargs=told,
    )
    try:
        yield from _ahead(pool, parts, call.workers * _PARTS_AHEAD)
    except BrokenProcessPool as error:
        raise BadInput(
            "a worker process was killed, maybe for want of memory; parts that are done are kept: "
            "run the same command again, with fewer --workers"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def threads(workers: int) -> int:
    """Cores for each worker."""
    return max(1, (os.cpu_count() or 1) // workers)


def _ahead(pool: Any, parts: Sequence[Part], most: int) -> Iterator[Receipt]:
    """A few parts are waiting at any time, so that a run that stops leaves little undone."""
    running: set[Future[Receipt]] = set()
    coming = iter(parts)
    while True:
        while len(running) < most and (part := next(coming, None)) is not None:
            running.add(pool.submit(_run, part))
        if not running:
            return
        finished, running = wait(running, return_when=FIRST_COMPLETED)
        for future in finished:
            yield future.result()


def _start(
    job: dict[str, Any], plan: Plan, out: str, stop_on_error: bool, redo: bool, cores: int
) -> None:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the first process decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if _uses_torch(job["method"]):
        _set_threads(cores)
    _here["worker"] = Worker(Job.from_dict(job), plan, out, stop_on_error=stop_on_error, redo=redo)


def _end_with_parent() -> None:
    """A run that was killed must not leave workers behind that go on."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _uses_torch(method: str) -> bool:
    """Methods without a model start a second sooner without it."""
    from tamis.compressors.registry import method_info

    return method_info(method).needs != "nothing"


def _set_threads(cores: int) -> None:
    import torch

    torch.set_num_threads(cores)


def _run(part: Part) -> Receipt:
    return _here["worker"].run(part)
