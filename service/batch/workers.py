"""Workers turn parts into files and receipts: in this process, in several, or on Ray Data.

On Ray, rows are not sent between machines: every actor reads its parts from the input and writes
them to the output folder, so both must be reachable from every machine. An actor that dies is
replaced, and its part is done again unless it had a receipt already.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from tamis.probes.errors import BadInput
from tamis.probes.extras import connect_to_ray
from tamis.service.batch.job import BatchJob, RunOptions
from tamis.service.batch.outcomes import (
    OutcomeCallback,
    RowOutcome,
    encode_jsonl,
    encode_parquet,
    read_outcomes,
)
from tamis.service.batch.output import OutputFolder, PartReceipt, sha256_hex
from tamis.service.batch.plan import BatchPart, BatchPlan
from tamis.service.batch.rows import InputRow, PartRows, RowRequest, request_of

if TYPE_CHECKING:
    from tamis.service.batch.row_compressor import RowCompressor


class RowFailed(BadInput):
    """A row failed and `stop_on_error` is set; the message names file and row."""


class PartWorker:
    """Runs parts of one plan; the method is loaded for the first row that needs it."""

    def __init__(
        self, job: BatchJob, plan: BatchPlan, options: RunOptions, redo: bool = False
    ) -> None:
        """A worker of a plan.

        Args:
            redo: repeat the failed rows of completed parts, and only those.
        """
        self.job, self.plan, self.output = job, plan, OutputFolder(options.out)
        self.stop_on_error, self.redo = options.stop_on_error, redo
        self.reader = PartRows(plan.sources, job)
        self._compressor: RowCompressor | None = None

    @property
    def compressor(self) -> RowCompressor:
        """The method of the job, loaded."""
        if self._compressor is None:
            from tamis.service.batch.row_compressor import RowCompressor

            self._compressor = RowCompressor(self.job)
        return self._compressor

    def finished_receipt(self, part: BatchPart) -> PartReceipt | None:
        """The receipt of a part that is done already; None for another part."""
        exists = self.output.fs.exists(f"{self.output.path}/{self.plan.part_file(part)}")
        receipt = self.output.read_receipt(part) if exists else None
        return receipt if receipt is not None and receipt.rows == part.rows else None

    def run(self, part: BatchPart, on_outcome: OutcomeCallback | None = None) -> PartReceipt:
        """Compresses the rows of a part, writes them and their receipt.

        Args:
            on_outcome: called with the outcome of each row that is computed.

        Raises:
            RowFailed: a row failed and `stop_on_error` is set.
            BadInput: the part cannot be read or written.
        """
        clock = time.perf_counter()
        rows = self.reader.read_rows(part)
        outcomes = self._earlier_outcomes(part) if self.redo else [None] * len(rows)
        done = self._complete(part, rows, outcomes, on_outcome)
        data = self._encode(part, rows, done)
        failed = tuple(
            (row.number, outcome.error or "")
            for row, outcome in zip(rows, done, strict=True)
            if outcome.status == "error"
        )
        receipt = PartReceipt(
            part.index,
            len(rows),
            sum(outcome.tokens_in or 0 for outcome in done),
            sum(outcome.tokens_out or 0 for outcome in done),
            failed,
            sha256_hex(data),
            len(data),
            round(time.perf_counter() - clock, 4),
            sum(outcome.unusable for outcome in done),
        )
        self.output.write_part(self.plan.part_file(part), data, receipt)
        return receipt

    def _earlier_outcomes(self, part: BatchPart) -> list[RowOutcome | None]:
        """The outcomes of an earlier run; None for each row that failed."""
        name = self.plan.part_file(part)
        outcomes = read_outcomes(self.output.read(name), name, self.job)
        return [None if outcome.status == "error" else outcome for outcome in outcomes]

    def _complete(
        self,
        part: BatchPart,
        rows: Sequence[InputRow],
        known: Sequence[RowOutcome | None],
        on_outcome: OutcomeCallback | None,
    ) -> list[RowOutcome]:
        """The outcomes of all rows: the known ones, and those that are computed now."""
        found: list[RowOutcome | None] = list(known)
        for outcome in known:
            if outcome is not None and on_outcome:
                on_outcome(outcome)
        requests: list[tuple[int, RowRequest]] = []
        for place, row in enumerate(rows):
            if found[place] is None:
                try:
                    requests.append((place, request_of(row, self.job)))
                except BadInput as error:
                    refused = self._locate_error(
                        part, row, RowOutcome(error=str(error), unusable=True)
                    )
                    found[place] = refused
                    if on_outcome:
                        on_outcome(refused)
        if requests:  # else the method need not be loaded
            asked = [request for _, request in requests]
            results = self.compressor.compress_rows(asked, on_outcome)
            for (place, _), outcome in zip(requests, results, strict=True):
                found[place] = self._locate_error(part, rows[place], outcome)
        return [outcome for outcome in found if outcome is not None]

    def _locate_error(self, part: BatchPart, row: InputRow, outcome: RowOutcome) -> RowOutcome:
        """The outcome; if it is an error, with file and row in its message.

        Raises:
            RowFailed: it is an error and `stop_on_error` is set.
        """
        if outcome.status == "error":
            place = self.plan.sources[part.source].location(row.number)
            outcome = replace(outcome, error=f"{place}: {outcome.error}")
            if self.stop_on_error:
                raise RowFailed(f"{outcome.error}; nothing is lost: run again with --on-error keep")
        return outcome

    def _encode(
        self, part: BatchPart, rows: Sequence[InputRow], done: Sequence[RowOutcome]
    ) -> bytes:
        from tamis.service.files.streams import pack

        if self.job.format != "parquet":
            return pack(encode_jsonl(rows, done, self.job), self.plan.part_file(part))
        own: Any = None
        if self.plan.sources[part.source].kind == "parquet":
            own = self.reader.arrow_table(part)
        return encode_parquet(rows, done, self.job, own, self.plan.columns)


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
    pool = ProcessPoolExecutor(
        min(options.workers, len(parts)),
        mp_context=context,
        initializer=_start_worker,
        initargs=(context.Value("i", 0), job, plan, options, redo),
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
    started: Any, job: BatchJob, plan: BatchPlan, options: RunOptions, redo: bool
) -> None:
    """Prepares a worker process.

    Args:
        started: how many workers have been, shared by all of them.
    """
    import signal

    from tamis.compressors.registry import method_info

    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches every process; the main one decides
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    if method_info(job.method).needs != "nothing":  # without torch a worker starts a second sooner
        import torch

        torch.set_num_threads(max(1, (os.cpu_count() or 1) // options.workers))
        with started.get_lock():
            number, started.value = started.value, started.value + 1
        if count := torch.cuda.device_count():  # workers take the machine's cards in turn
            torch.cuda.set_device(number % count)
    _process_worker["worker"] = PartWorker(job, plan, options, redo)


def _exit_with_parent() -> None:
    """Ends this worker when the main process ends, even if that was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run_part(part: BatchPart) -> PartReceipt:
    return _process_worker["worker"].run(part)


_MAX_BLOCKS = 10_000


class PartActor:
    """A worker as a class for `map_batches`: a batch of parts to a batch of receipts, as JSON."""

    def __init__(self, job: BatchJob, urls: Sequence[str], options: RunOptions, redo: bool) -> None:
        """Reads the plan from the output folder: it may be too large to be sent to every actor.

        Args:
            urls: of the input files today.
        """
        plan = OutputFolder(options.out).read_plan()
        if plan is None:
            raise BadInput(
                f"{options.out} cannot be reached from here; name a folder that all machines see"
            )
        moved = zip(plan.sources, urls, strict=True)
        plan = replace(plan, sources=tuple(replace(source, url=url) for source, url in moved))
        self.worker = PartWorker(job, plan, options, redo)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Runs the parts of a batch."""
        return {
            "receipt": [self._receipt_json(BatchPart(*json.loads(part))) for part in batch["part"]]
        }

    def _receipt_json(self, part: BatchPart) -> str:
        """A receipt, or the error as JSON: Ray would retry a raised one and log a traceback."""
        done = None if self.worker.redo else self.worker.finished_receipt(part)
        try:
            return json.dumps(asdict(done or self.worker.run(part)))
        except BadInput as error:
            return json.dumps({"error": str(error), "row": isinstance(error, RowFailed)})


def run_on_ray(
    job: BatchJob, options: RunOptions, plan: BatchPlan, parts: Sequence[BatchPart], redo: bool
) -> Iterator[PartReceipt]:
    """Runs parts on Ray; yields their receipts as they are done. Starts Ray here if none runs.

    Raises:
        BadInput: as in `PartWorker.run`. MissingExtra: Ray is not installed.
    """
    data = _ray_data()
    urls = [source.url for source in plan.sources]
    actors = data.ActorPoolStrategy(size=min(options.workers, len(parts)))
    rows = [{"part": json.dumps(list(asdict(part).values()))} for part in parts]
    done = data.from_items(rows, override_num_blocks=min(len(rows), _MAX_BLOCKS)).map_batches(
        PartActor,
        batch_size=1,
        compute=actors,
        num_gpus=options.gpus or None,
        fn_constructor_args=(job, urls, options, redo),
    )
    for row in done.iter_rows():
        receipt = json.loads(row["receipt"])
        if "error" in receipt:
            raise (RowFailed if receipt["row"] else BadInput)(receipt["error"])
        yield PartReceipt.from_dict(receipt)


def _ray_data() -> Any:
    """Ray Data, on the cluster of RAY_ADDRESS or `ray start`, else on this machine."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would send statistics
    ray = connect_to_ray("ray.data", "--engine ray", "batch,ray")
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # progress is shown by the caller
    ray.data.DataContext.get_current().enable_progress_bars = False
    return ray.data
