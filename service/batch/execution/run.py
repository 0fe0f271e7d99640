"""A batch from its beginning, or from where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from tamis.probes.errors import BadInput
from tamis.service.batch.job import Job, differences, settings
from tamis.service.batch.outcome import Outcome
from tamis.service.batch.output import Output, Plan, Receipt
from tamis.service.batch.plan import Part, stamp, survey
from tamis.service.batch.row_reader import Reader
from tamis.service.batch.row_writer import Columns, schema_of
from tamis.service.batch.rows import Row, request_of
from tamis.service.batch.run_options import RunOptions
from tamis.service.files.sources import Source, find_sources

SCHEMA_ROWS = 200


@dataclass(slots=True)
class Summary:
    """What a run did, and what it found done.

    Attributes:
        failures: place and message of failed rows, the first hundred.
        rows, failed, tokens_in, tokens_out: of all parts of the shard that are done.
    """

    rows: int = 0
    failed: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    parts: int = 0
    failures: list[str] = field(default_factory=list)

    def add(self, receipt: Receipt) -> None:
        """Counts a part."""
        self.parts += 1
        self.rows += receipt.rows
        self.failed += len(receipt.failed)
        self.tokens_in += receipt.tokens_in
        self.tokens_out += receipt.tokens_out
        self.failures += [why for _, why in receipt.failed[: 100 - len(self.failures)]]


@dataclass(frozen=True, slots=True)
class Begun:
    """A batch that is ready to run: its plan, what is done, what is left of the shard's `parts`."""

    plan: Plan
    summary: Summary
    left: tuple[Part, ...]
    redo: tuple[Part, ...]
    parts: int

    @property
    def rows_left(self) -> int:
        """Rows of the parts that are to be done."""
        return sum(part.rows for part in (*self.left, *self.redo))


def begin(job: Job, call: RunOptions) -> Begun:
    """Surveys the input, or takes up the plan of an earlier run, and sees what is left.

    Raises:
        BadInput: no input, rows of a schema that does not fit, or an output folder that holds
            another batch; then what differs is told.
    """
    output = Output(call.out)
    if call.overwrite:
        output.clear()
    plan = agreed(job, call, output.plan())
    if output.plan() is None:
        output.write_plan(plan)
    mine = plan.shard(*call.shard)
    output.drop_torn(mine)
    summary, redo, done = Summary(), [], set()
    for part, receipt in output.receipts(plan, mine):
        done.add(part.index)
        if call.retry_errors and receipt.failed:
            redo.append(part)
        else:
            summary.add(receipt)
    left = tuple(part for part in mine if part.index not in done)
    return Begun(plan, summary, left, tuple(redo), len(mine))


def agreed(job: Job, call: RunOptions, before: Plan | None) -> Plan:
    """The plan of this batch: the one before it if settings and input are the same."""
    now = settings(job)
    if before is not None and (changed := differences(before.settings, now)):
        raise BadInput(_refusal(call.out, changed))
    sources = find_sources(call.inputs, call.out)
    if before is not None and _same_stamps(before, sources):
        return replace(before, sources=tuple(sources))
    plan = planned(job, sources, now)
    if before is None:
        return plan
    if changed := _changed_inputs(before, plan):
        raise BadInput(_refusal(call.out, changed))
    return replace(before, sources=plan.sources)


def planned(job: Job, sources: Sequence[Source], told: dict[str, object]) -> Plan:
    """Cuts sources into parts, once some of their first rows are what rows should be."""
    kinds = {source.kind for source in sources}
    if job.format == "parquet" and "parquet" in kinds and len(kinds) > 1:
        raise BadInput("Parquet and other inputs share no schema; give --format jsonl")
    surveys = survey(sources, job.cut)
    columns: Columns = ()
    samples = [
        (found.source, row)
        for found in surveys
        if found.parts
        for row in _first_rows(found.source, found.parts[0], job)
    ]
    _check_schema(samples, job)
    if job.format == "parquet" and "parquet" not in kinds:
        columns = schema_of(row for _, row in samples)
    return Plan.of(told, surveys, job.format, columns)


def _first_rows(source: Source, part: Part, job: Job) -> list[Row]:
    moved = Part(0, 0, part.first, part.rows, part.start, part.stop)
    reader = Reader([source], job)
    rows = list(islice(reader.rows(moved), SCHEMA_ROWS))
    reader.close()
    return rows


def _check_schema(samples: Sequence[tuple[Source, Row]], job: Job) -> None:
    """Refuses input of which none of the first rows can be used: its fields have other names."""
    first = None
    for source, row in samples:
        try:
            request_of(row, job)
            return
        except BadInput as error:
            first = first or f"{source.place(row.number)}: {error}"
    raise BadInput(f"{first} (none of the first {len(samples)} rows can be used)")


def _same_stamps(before: Plan, sources: Sequence[Source]) -> bool:
    return [source.names for source in before.sources] == [s.names for s in sources] and [
        one["stamp"] for one in before.inputs
    ] == [stamp(source) for source in sources]


def _changed_inputs(before: Plan, now: Plan) -> list[str]:
    """Inputs whose content is not what it was; a new place or time alone is no change."""
    then = [(one["sha256"], one) for one in before.inputs]
    today = [(one["sha256"], one) for one in now.inputs]
    if [digest for digest, _ in then] == [digest for digest, _ in today]:
        return []
    if len(then) != len(today):
        return [f"there were {len(then)} inputs and there are {len(today)}"]
    return [
        f"{new['name']} changed ({old['rows']:,} rows then, {new['rows']:,} now)"
        for (a, old), (b, new) in zip(then, today, strict=True)
        if a != b
    ]


def _refusal(out: str, changed: Sequence[str]) -> str:
    listed = "; ".join(changed)
    return (
        f"{out} holds another batch: {listed}. Name another folder, "
        "or start this one over with --overwrite"
    )


Done = Callable[[Receipt], None]


def run(
    job: Job,
    call: RunOptions,
    begun: Begun,
    done: Done | None = None,
    tick: Callable[[Outcome], None] | None = None,
) -> Summary:
    """Does what is left.

    Args:
        done: called with each receipt.
        tick: called with each outcome, where rows are done in this process.

    Raises:
        RowFailed: a row failed and none may. BadInput: the disk is full, or the input changed.
    """
    for parts, redo in ((begun.left, False), (begun.redo, True)):
        for receipt in _receipts(job, call, begun.plan, parts, redo, tick):
            begun.summary.add(receipt)
            if done:
                done(receipt)
    return begun.summary


def _receipts(
    job: Job,
    call: RunOptions,
    plan: Plan,
    parts: Iterable[Part],
    redo: bool,
    tick: Callable[[Outcome], None] | None,
) -> Iterator[Receipt]:
    todo = list(parts)
    if not todo:
        return
    if call.engine == "ray":
        from tamis.service.batch.execution.ray_runner import receipts as on_ray

        yield from on_ray(job, call, plan, todo, redo)
    elif call.workers > 1:
        from tamis.service.batch.execution.processes import receipts as in_processes

        yield from in_processes(job, call, plan, todo, redo)
    else:
        from tamis.service.batch.execution.worker import Worker

        worker = Worker(job, plan, call.out, stop_on_error=call.stop_on_error, redo=redo)
        yield from (worker.run(part, tick) for part in todo)
