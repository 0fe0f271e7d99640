"""Runs a batch from its beginning, or from where an earlier run stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from tamis.probes.errors import BadInput
from tamis.service.batch.job import BatchJob, describe_differences, resume_settings
from tamis.service.batch.outcome import RowOutcome
from tamis.service.batch.output import OutputFolder, PartReceipt
from tamis.service.batch.plan import BatchPlan
from tamis.service.batch.row_reader import PartReader
from tamis.service.batch.row_writer import Columns, columns_of
from tamis.service.batch.rows import InputRow, request_of
from tamis.service.batch.run_options import RunOptions
from tamis.service.batch.survey import BatchPart, file_stamp, survey_files
from tamis.service.files.input_files import InputFile, find_input_files

SCHEMA_ROWS = 200


@dataclass(slots=True)
class RunSummary:
    """Totals over the parts that are done, by this run or an earlier one.

    Attributes:
        failures: location and message of the first hundred failed rows.
        rows, failed, tokens_in, tokens_out, parts: of all completed parts of the shard.
    """

    rows: int = 0
    failed: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    parts: int = 0
    failures: list[str] = field(default_factory=list)

    def add(self, receipt: PartReceipt) -> None:
        """Adds the counts of a part."""
        self.parts += 1
        self.rows += receipt.rows
        self.failed += len(receipt.failed)
        self.tokens_in += receipt.tokens_in
        self.tokens_out += receipt.tokens_out
        self.failures += [why for _, why in receipt.failed[: 100 - len(self.failures)]]


@dataclass(frozen=True, slots=True)
class PreparedBatch:
    """A batch that is ready to run.

    Attributes:
        summary: of the parts that are done. remaining: parts that are not done yet.
        redo: parts that are done and whose failed rows are to be repeated.
        parts: number of parts of the shard.
    """

    plan: BatchPlan
    summary: RunSummary
    remaining: tuple[BatchPart, ...]
    redo: tuple[BatchPart, ...]
    parts: int

    @property
    def remaining_rows(self) -> int:
        """Rows of the parts that are to be run."""
        return sum(part.rows for part in (*self.remaining, *self.redo))


def prepare_batch(job: BatchJob, options: RunOptions) -> PreparedBatch:
    """Surveys the input, or loads the plan of an earlier run, and finds the remaining parts.

    Raises:
        BadInput: there is no input, its fields have other names, or the output folder holds
            another batch; then the message names the differences.
    """
    output = OutputFolder(options.out)
    if options.overwrite:
        output.clear()
    plan = plan_batch(job, options, output.read_plan())
    if output.read_plan() is None:
        output.write_plan(plan)
    mine = plan.shard_parts(*options.shard)
    output.remove_partial_files(mine)
    summary, redo, done = RunSummary(), [], set()
    for part, receipt in output.completed_parts(plan, mine):
        done.add(part.index)
        if options.retry_errors and receipt.failed:
            redo.append(part)
        else:
            summary.add(receipt)
    remaining = tuple(part for part in mine if part.index not in done)
    return PreparedBatch(plan, summary, remaining, tuple(redo), len(mine))


def plan_batch(job: BatchJob, options: RunOptions, before: BatchPlan | None) -> BatchPlan:
    """The plan of this batch: that of an earlier run if settings and input are the same.

    Raises:
        BadInput: settings or input differ from those of the earlier run.
    """
    now = resume_settings(job)
    if before is not None and (changed := describe_differences(before.settings, now)):
        raise BadInput(_refusal_message(options.out, changed))
    sources = find_input_files(options.inputs, options.out)
    if before is not None and _has_same_stamps(before, sources):
        return replace(before, sources=tuple(sources))
    plan = make_plan(job, sources, now)
    if before is None:
        return plan
    if changed := _describe_changed_inputs(before, plan):
        raise BadInput(_refusal_message(options.out, changed))
    return replace(before, sources=plan.sources)


def make_plan(
    job: BatchJob, sources: Sequence[InputFile], settings: dict[str, object]
) -> BatchPlan:
    """Cuts input files into parts, after a check that some of their first rows can be used."""
    kinds = {source.kind for source in sources}
    if job.format == "parquet" and "parquet" in kinds and len(kinds) > 1:
        raise BadInput("Parquet and other inputs share no schema; give --format jsonl")
    surveys = survey_files(sources, job.cut)
    columns: Columns = ()
    samples = [
        (found.source, row)
        for found in surveys
        if found.parts
        for row in _first_rows(found.source, found.parts[0], job)
    ]
    _check_schema(samples, job)
    if job.format == "parquet" and "parquet" not in kinds:
        columns = columns_of(row for _, row in samples)
    return BatchPlan.from_surveys(settings, surveys, job.format, columns)


def _first_rows(source: InputFile, part: BatchPart, job: BatchJob) -> list[InputRow]:
    moved = BatchPart(0, 0, part.first, part.rows, part.start, part.stop)
    reader = PartReader([source], job)
    rows = list(islice(reader.read_rows(moved), SCHEMA_ROWS))
    reader.close()
    return rows


def _check_schema(samples: Sequence[tuple[InputFile, InputRow]], job: BatchJob) -> None:
    """Refuses input without a usable row among the first: its fields have other names."""
    first = None
    for source, row in samples:
        try:
            request_of(row, job)
            return
        except BadInput as error:
            first = first or f"{source.location(row.number)}: {error}"
    raise BadInput(f"{first} (none of the first {len(samples)} rows can be used)")


def _has_same_stamps(before: BatchPlan, sources: Sequence[InputFile]) -> bool:
    return [source.names for source in before.sources] == [s.names for s in sources] and [
        one["stamp"] for one in before.inputs
    ] == [file_stamp(source) for source in sources]


def _describe_changed_inputs(before: BatchPlan, now: BatchPlan) -> list[str]:
    """Messages on inputs with another content; another path or time alone is not a change."""
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


def _refusal_message(out: str, changed: Sequence[str]) -> str:
    listed = "; ".join(changed)
    return (
        f"{out} holds another batch: {listed}. Name another folder, "
        "or start this one over with --overwrite"
    )


ReceiptCallback = Callable[[PartReceipt], None]


def run_batch(
    job: BatchJob,
    options: RunOptions,
    prepared: PreparedBatch,
    on_receipt: ReceiptCallback | None = None,
    on_outcome: Callable[[RowOutcome], None] | None = None,
) -> RunSummary:
    """Runs the remaining parts.

    Args:
        on_receipt: called with each receipt.
        on_outcome: called with each outcome, if rows are compressed in this process.

    Raises:
        RowFailed: a row failed and `stop_on_error` is set.
        BadInput: the disk is full, or the input changed.
    """
    for parts, redo in ((prepared.remaining, False), (prepared.redo, True)):
        for receipt in _run_parts(job, options, prepared.plan, parts, redo, on_outcome):
            prepared.summary.add(receipt)
            if on_receipt:
                on_receipt(receipt)
    return prepared.summary


def _run_parts(
    job: BatchJob,
    options: RunOptions,
    plan: BatchPlan,
    parts: Iterable[BatchPart],
    redo: bool,
    on_outcome: Callable[[RowOutcome], None] | None,
) -> Iterator[PartReceipt]:
    todo = list(parts)
    if not todo:
        return
    if options.engine == "ray":
        from tamis.service.batch.execution.ray_runner import run_on_ray

        yield from run_on_ray(job, options, plan, todo, redo)
    elif options.workers > 1:
        from tamis.service.batch.execution.processes import run_in_processes

        yield from run_in_processes(job, options, plan, todo, redo)
    else:
        from tamis.service.batch.execution.worker import PartWorker

        worker = PartWorker(job, plan, options.out, stop_on_error=options.stop_on_error, redo=redo)
        yield from (worker.run(part, on_outcome) for part in todo)
