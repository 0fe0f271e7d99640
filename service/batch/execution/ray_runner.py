"""Runs parts on Ray Data: parts in, receipts out, on any number of machines.

Rows are not sent between machines: every actor reads its parts from the input and writes them to
the output folder, so both must be reachable from every machine. An actor that dies is replaced, and
its part is done again unless it had a receipt already.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from tamis.probes.errors import BadInput
from tamis.probes.extras import connect_to_ray
from tamis.service.batch.execution.worker import PartWorker
from tamis.service.batch.job import BatchJob
from tamis.service.batch.output import OutputFolder, PartReceipt
from tamis.service.batch.plan import BatchPlan
from tamis.service.batch.survey import BatchPart

if TYPE_CHECKING:
    from tamis.service.batch.run_options import RunOptions

_MAX_BLOCKS = 10_000


class PartActor:
    """A worker as a class for `map_batches`: a batch of parts to a batch of receipts, as JSON."""

    def __init__(
        self, job: dict[str, Any], urls: list[str], out: str, stop_on_error: bool, redo: bool
    ) -> None:
        """Reads the plan from the output folder: it may be too large to be sent to every actor.

        Args:
            urls: of the input files today.
        """
        plan = OutputFolder(out).read_plan()
        if plan is None:
            raise BadInput(
                f"{out} cannot be reached from here; name a folder that all machines see"
            )
        moved = zip(plan.sources, urls, strict=True)
        plan = replace(plan, sources=tuple(replace(source, url=url) for source, url in moved))
        self.worker = PartWorker(
            BatchJob.from_dict(job), plan, out, stop_on_error=stop_on_error, redo=redo
        )

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
            return json.dumps({"error": str(error), "row": type(error).__name__ == "RowFailed"})


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
        fn_constructor_args=(job.as_dict(), urls, options.out, options.stop_on_error, redo),
    )
    for row in done.iter_rows():
        receipt = json.loads(row["receipt"])
        if "error" in receipt:
            raise _error_of(receipt)
        yield PartReceipt.from_dict(receipt)


def _error_of(failure: dict[str, Any]) -> BadInput:
    from tamis.service.batch.execution.worker import RowFailed

    return (RowFailed if failure["row"] else BadInput)(failure["error"])


def _ray_data() -> Any:
    """Ray Data, on the cluster of RAY_ADDRESS or `ray start`, else on this machine."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would send statistics
    ray = connect_to_ray("ray.data", "--engine ray", "batch,ray")
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # progress is shown by the caller
    ray.data.DataContext.get_current().enable_progress_bars = False
    return ray.data
