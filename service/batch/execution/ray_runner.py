"""The same worker as an actor of Ray Data: parts in, receipts out, on any number of machines.

A part's rows never travel: every actor reads its parts where they lie and writes them where the
output lies, so input and output must be reachable from every machine. An actor that dies is
replaced, and its part is done again; a part that had its receipt already is not.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from tamis.probes.errors import BadInput, MissingExtra
from tamis.service.batch.execution.worker import Worker
from tamis.service.batch.job import Job
from tamis.service.batch.output import Output, Plan, Receipt
from tamis.service.batch.plan import Part

if TYPE_CHECKING:
    from tamis.service.batch.run_options import RunOptions

_MOST_BLOCKS = 10_000


class Actor:
    """A worker behind Ray Data's interface: a batch of parts to a batch of receipts, as JSON."""

    def __init__(
        self, job: dict[str, Any], urls: list[str], out: str, stop_on_error: bool, redo: bool
    ) -> None:
        """The plan is read where the output lies: it may be too large to travel with every actor.

        Args:
            urls: where the sources are today.
        """
        plan = Output(out).plan()
        if plan is None:
            raise BadInput(
                f"{out} cannot be reached from here; name a folder that all machines see"
            )
        moved = zip(plan.sources, urls, strict=True)
        plan = replace(plan, sources=tuple(replace(source, url=url) for source, url in moved))
        self.worker = Worker(Job.from_dict(job), plan, out, stop_on_error=stop_on_error, redo=redo)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Does the parts of a batch."""
        return {"receipt": [self._told(Part(*json.loads(told))) for told in batch["part"]]}

    def _told(self, part: Part) -> str:
        """A receipt, or why there is none: raised, it would be tried again and come as a trace."""
        done = None if self.worker.redo else self.worker.finished(part)
        try:
            return json.dumps(asdict(done or self.worker.run(part)))
        except BadInput as error:
            return json.dumps({"error": str(error), "row": type(error).__name__ == "RowFailed"})


def receipts(
    job: Job, call: RunOptions, plan: Plan, parts: Sequence[Part], redo: bool
) -> Iterator[Receipt]:
    """The receipts of parts, as they are done; starts Ray on this machine where none runs.

    Raises:
        BadInput: as a worker does. MissingExtra: Ray is not installed.
    """
    data = _started()
    urls = [source.url for source in plan.sources]
    actors = data.ActorPoolStrategy(size=min(call.workers, len(parts)))
    rows = [{"part": json.dumps(list(asdict(part).values()))} for part in parts]
    done = data.from_items(rows, override_num_blocks=min(len(rows), _MOST_BLOCKS)).map_batches(
        Actor,
        batch_size=1,
        compute=actors,
        num_gpus=call.gpus or None,
        fn_constructor_args=(job.as_dict(), urls, call.out, call.stop_on_error, redo),
    )
    for row in done.iter_rows():
        told = json.loads(row["receipt"])
        if "error" in told:
            raise _failure(told)
        yield Receipt.from_dict(told)


def _failure(told: dict[str, Any]) -> BadInput:
    from tamis.service.batch.execution.worker import RowFailed

    return (RowFailed if told["row"] else BadInput)(told["error"])


def _started() -> Any:
    """Ray Data; of the cluster that RAY_ADDRESS or `ray start` names, else of this machine."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would call home
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtra('--engine ray needs Ray: pip install "tamis[batch,ray]"') from error
    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # progress is shown by the caller
    ray.data.DataContext.get_current().enable_progress_bars = False
    return ray.data
