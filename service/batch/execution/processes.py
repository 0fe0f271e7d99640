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
from tamis.service.batch.execution.worker import PartWorker
from tamis.service.batch.job import BatchJob
from tamis.service.batch.output import PartReceipt
from tamis.service.batch.plan import BatchPlan
from tamis.service.batch.survey import BatchPart

if TYPE_CHECKING:
    from tamis.service.batch.run_options import RunOptions

_PARTS_AHEAD = 2
_process_worker: dict[str, PartWorker] = {}


def run_in_processes(
    job: BatchJob, options: RunOptions, plan: BatchPlan, parts: Sequence[BatchPart], redo: bool
) -> Iterator[PartReceipt]:
    """Runs parts in worker processes; yields their receipts as they are done.

    Raises:
        BadInput: as in `PartWorker.run`, or a worker was killed.
    """
    context = multiprocessing.get_context("spawn")
    arguments = (
        context.Value("i", 0),
        job.as_dict(),
        plan,
        options.out,
        options.stop_on_error,
        redo,
        threads_per_worker(options.workers),
    )
    pool = ProcessPoolExecutor(
        min(options.workers, len(parts)),
        mp_context=context,
        initializer=_start_worker,
        initargs=arguments,
    )
    try:
        yield from _run_ahead(pool, parts, options.workers * _PARTS_AHEAD)
    except BrokenProcessPool as error:
        raise BadInput(
            "a worker process was killed, maybe for want of memory; parts that are done are kept: "
            "run the same command again, with fewer --workers"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def threads_per_worker(workers: int) -> int:
    """Threads of each worker: the cores of this machine, divided."""
    return max(1, (os.cpu_count() or 1) // workers)


def _run_ahead(pool: Any, parts: Sequence[BatchPart], max_running: int) -> Iterator[PartReceipt]:
    """Submits only a few parts ahead, so that a run that stops has few parts in progress."""
    running: set[Future[PartReceipt]] = set()
    queue = iter(parts)
    while True:
        while len(running) < max_running and (part := next(queue, None)) is not None:
            running.add(pool.submit(_run_part, part))
        if not running:
            return
        finished, running = wait(running, return_when=FIRST_COMPLETED)
        for future in finished:
            yield future.result()


def _start_worker(
    started: Any,
    job: dict[str, Any],
    plan: BatchPlan,
    out: str,
    stop_on_error: bool,
    redo: bool,
    cores: int,
) -> None:
    """Prepares a worker process.

    Args:
        started: how many workers have been, shared by all of them.
    """
    import signal

    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches every process; the main one decides
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    if _uses_torch(job["method"]):
        _set_threads(cores)
        with started.get_lock():
            number, started.value = started.value, started.value + 1
        choose_card(number)
    _process_worker["worker"] = PartWorker(
        BatchJob.from_dict(job), plan, out, stop_on_error=stop_on_error, redo=redo
    )


def _exit_with_parent() -> None:
    """Ends this worker when the main process ends, even if that was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _uses_torch(method: str) -> bool:
    """Whether a method needs torch; without its import a worker starts a second sooner."""
    from tamis.compressors.registry import method_info

    return method_info(method).needs != "nothing"


def _set_threads(cores: int) -> None:
    import torch

    torch.set_num_threads(cores)


def choose_card(number: int) -> None:
    """Makes one of the machine's CUDA cards that of this process, in turn; nothing without any."""
    import torch

    if count := torch.cuda.device_count():
        torch.cuda.set_device(number % count)


def _run_part(part: BatchPart) -> PartReceipt:
    return _process_worker["worker"].run(part)
