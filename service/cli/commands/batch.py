"""`tamis batch`: compresses corpora of any size, in parts; a run resumes where it stopped."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import typer

from tamis.compressors.options import Option
from tamis.compressors.registry import DEFAULT, method_info
from tamis.compressors.rules import Budget, Rules
from tamis.probes.errors import BadInput
from tamis.service.batch.job import BatchEngine, BatchJob, Format, PartLimits, RowFields, RunOptions
from tamis.service.cli.display.output import print_note, print_passed_over
from tamis.service.cli.display.short_help import ShortHelpCommand
from tamis.service.cli.options.compress_options import MAX_INPUT_TOKENS, SHARED
from tamis.service.cli.options.model_folder import HomeFolder, models_folder
from tamis.service.cli.options.typer_options import parse_options, takes_options
from tamis.service.files.document_text import InputFormat

if TYPE_CHECKING:
    from tamis.service.files.input_files import InputFile


_ROWS, _RUN = "Rows", "Run"
BATCH = {
    "inputs": Option(
        "JSON Lines (also .gz, .zst), Parquet, folders, globs, URLs. A text file is a row.",
        metavar="IN...",
        is_argument=True,
    ),
    "out": Option("The output folder, here or a URL.", short="-o"),
    "question": Option("One question for all rows, before their own.", short="-q"),
    "engine": Option("`ray` also runs on other machines."),
    "workers": Option("Processes, each with its own model.", ge=1),
    "gpus": Option("Ray only; 0.5 puts two workers on one.", _RUN, flag="--gpus-per-worker", ge=0),
    "shard": Option(
        "Do every N-th part, from the I-th on; the same or another output folder.",
        _RUN,
        metavar="I/N",
    ),
    "dry_run": Option("Say rows, tokens and time; write nothing.", _RUN),
    "on_error": Option("Keep a failing row as an error row, or stop."),
    "only_kept": Option(
        "Write rows without documents and context; spans are into those of the input."
    ),
    "share": Option(
        "Read short rows together: faster. Without, each exactly as `tamis compress` would.", _RUN
    ),
    "retry_errors": Option("Do the rows that failed again.", _RUN),
    "overwrite": Option("Remove another batch from the output folder.", _RUN),
    "quiet": Option("No progress and no summary.", _RUN),
    "prefix": Option("Before the names of added fields.", _ROWS),
    "format": Option(
        "jsonl, jsonl.gz, jsonl.zst or parquet; parquet if all inputs are, else jsonl.", _ROWS
    ),
    "part_rows": Option("Rows of a part: what a crash costs.", _ROWS, ge=1),
    "part_mb": Option(
        "MiB of input in a part, at most; by default what one core reads in under a minute.",
        _ROWS,
        ge=1,
    ),
}
"""`tamis batch run` has these."""
MERGE = {
    "outs": Option("Output folders of one batch.", metavar="OUT...", is_argument=True),
    "target": Option(
        "The file: .jsonl, .jsonl.gz, .jsonl.zst or .parquet.", short="-o", flag="--out"
    ),
    "partial": Option("Merge what there is, though parts are missing."),
}
"""`tamis batch merge` and `tamis batch verify` have these."""


EPILOG = """
A row is `{"id", "question", "documents": ["text", {"id", "text", "title", "metadata"}]}` or
`{"id", "question", "context": "text"}`. Rows keep their fields and get `compressed`, `spans`,
`scores`, `tokens_in`, `tokens_out`, `status`, `answerability`, `verdict`, `reason`, `warnings`
and `error`.

Exit status: 0 all rows are done; 1 some rows failed, files of a folder were passed over, or parts
are missing or damaged; 2 the call cannot be carried out; 130 interrupted. Whatever stopped it: the
same command goes on.

**Examples**

`tamis batch run questions.jsonl -o out/ --max-tokens 500`

`tamis batch run a/*.parquet -o out/ --question "Who was hurt?" --context-field body --ratio 0.2`

`tamis batch run notes/ -o out/ --question "What was decided?" --method lexical --workers 4`

`tamis batch run s3://bucket/in/ -o s3://bucket/out --shard 3/10`

`tamis batch run questions.jsonl -o out/ --dry-run` says rows, tokens and time, and writes nothing

`tamis batch merge out/ -o all.jsonl`
"""
app = typer.Typer(
    help="Compress corpora: JSON Lines, Parquet or folders in; out come the same rows and what was "
    "kept of each.",
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
EXIT_ROWS_FAILED = 1


@app.command("run", cls=ShortHelpCommand, epilog=EPILOG)
@takes_options(SHARED | BATCH)
def run(
    inputs: list[str],
    out: str,
    *,
    question: str | None = None,
    budget: Budget,
    instruction: str | None = None,
    tokenizer: str = "proxy",
    method: str = DEFAULT,
    proxy: str = "auto",
    quality: str = "standard",
    option: list[str] | None = None,
    probe: Path | None = None,
    cache: Path | None = None,
    engine: BatchEngine = "local",
    workers: int = 1,
    gpus: float = 0.0,
    shard: str = "1/1",
    dry_run: bool = False,
    on_error: Literal["keep", "stop"] = "keep",
    only_kept: bool = False,
    share: bool = True,
    retry_errors: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
    fields: RowFields,
    prefix: str = "",
    format: str | None = None,
    part_rows: int = 256,
    part_mb: int | None = None,
    rules: Rules,
    language: str = "auto",
    encoding: str = "utf-8",
    input_format: InputFormat = InputFormat.auto,
    max_input: int = MAX_INPUT_TOKENS,
    offline: bool = False,
    home: HomeFolder = None,
) -> None:
    """Compress every row of the input; run it again to go on where it stopped."""
    from tamis.service.batch.run import check_job
    from tamis.service.cli.options.default_proxy import fetch_default_proxy, job_with_proxy
    from tamis.service.files.input_files import find_input_files

    sources = find_input_files(inputs, out)
    models = models_folder(home)
    job = BatchJob(
        budget=budget,
        rules=rules,
        method=method,
        proxy=proxy,
        options=parse_options(option, probe=None if probe is None else str(probe)),
        tokenizer=tokenizer,
        language=language,
        encoding=encoding,
        input_format=input_format.value,
        question=question,
        instruction=instruction,
        cache=None if cache is None else str(cache.absolute()),
        fields=fields,
        max_input=max_input,
        prefix=prefix,
        format=_choose_format(format, sources),
        cut=PartLimits(part_rows, _part_bytes(part_mb, method, sources)),
        root=str(models),
        share=share,
        only_kept=only_kept,
    )
    check_job(job)
    job = job_with_proxy(job, inputs, out, quality)
    options = RunOptions(
        tuple(inputs),
        out,
        engine,
        workers,
        gpus,
        _parse_shard(shard),
        on_error == "stop",
        retry_errors,
        overwrite,
    )
    if tokenizer == "proxy" or method_info(method).needs_proxy:
        fetch_default_proxy(job.proxy, models, offline)
    if dry_run:
        _print_forecast(job, options)
    else:
        with contextlib.ExitStack() as held:
            _run_job(job, options, quiet, held)


def _run_job(job: BatchJob, options: RunOptions, quiet: bool, held: contextlib.ExitStack) -> None:
    from tamis.service.batch.run import prepare_batch, run_batch
    from tamis.service.batch.workers import RowFailed
    from tamis.service.cli.display.batch_progress import BatchProgress, print_summary, survey_status

    started = time.monotonic()
    with survey_status(quiet):
        prepared = prepare_batch(job, options, held)
    rows_now = prepared.remaining_rows
    # quiet or not, since it is a loss
    print_passed_over(prepared.plan.passed_over)
    if prepared.summary.parts and not quiet:
        print_note(f"{prepared.summary.parts:,} of {prepared.parts:,} parts are done already")
    if prepared.parts < options.workers and not quiet:
        print_note(
            f"{prepared.parts:,} parts for {options.workers} workers: some have nothing to do; "
            "--part-rows cuts smaller ones"
        )
    try:
        with _interrupt_on_sigterm(), BatchProgress(rows_now, quiet) as progress:
            summary = run_batch(job, options, prepared, progress.count)
    except RowFailed as error:
        print_note(f"tamis: {error}")
        raise typer.Exit(EXIT_ROWS_FAILED) from error
    except KeyboardInterrupt:
        print_note(f"{prepared.summary.parts:,} of {prepared.parts:,} parts are done")
        raise
    if not quiet:
        print_summary(summary, options.out, time.monotonic() - started, rows_now)
    if summary.failed or prepared.plan.passed_over:
        raise typer.Exit(EXIT_ROWS_FAILED)


@contextlib.contextmanager
def _interrupt_on_sigterm() -> Iterator[None]:
    """Handles SIGTERM, which schedulers send, as Ctrl-C."""
    import signal

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _print_forecast(job: BatchJob, options: RunOptions) -> None:
    from tamis.service.batch.output import OutputFolder
    from tamis.service.batch.run import estimate_batch, plan_batch
    from tamis.service.cli.display.batch_progress import forecast_text

    before = None if options.overwrite else OutputFolder(options.out).read_plan()
    plan = plan_batch(job, options, before)
    print_passed_over(plan.passed_over)
    typer.echo(forecast_text(estimate_batch(job, plan), options.workers))


def _choose_format(given: str | None, sources: Sequence[InputFile]) -> Format:
    """The format that was given, else Parquet if every input is Parquet, else JSON Lines."""
    if given is None:
        kinds = {source.kind for source in sources}
        return "parquet" if kinds == {"parquet"} else "jsonl"
    return cast(Format, given)  # the job refuses another


def _part_bytes(part_mb: int | None, method: str, sources: Sequence[InputFile]) -> int:
    """The most bytes of a part: those that were given, else what is read in under a minute."""
    from tamis.service.batch.plan import default_part_bytes, input_bytes

    if part_mb is not None:
        return part_mb << 20
    needs_proxy = method_info(method).needs_proxy
    return default_part_bytes(needs_proxy, input_bytes(sources) if needs_proxy else 0)


def _parse_shard(given: str) -> tuple[int, int]:
    if not (found := re.fullmatch(r"(\d+)/(\d+)", given)):
        raise BadInput(f"--shard is {given!r}; give the share and how many there are, such as 1/4")
    return int(found[1]), int(found[2])


@app.command("merge", epilog="`tamis batch merge out/ -o all.jsonl.gz`")
@takes_options(MERGE)
def merge(outs: list[str], target: str, partial: bool = False) -> None:
    """Join the parts of one batch, of all its shards, to one file, in the order of the input."""
    from tamis.service.batch.output import merge_batch

    print_note(f"{merge_batch(outs, target, partial=partial):,} rows in {target}")


@app.command("verify", epilog="`tamis batch verify out-1/ out-2/`")
@takes_options(MERGE)
def verify(outs: list[str]) -> None:
    """Read every part again: is each there, whole, with every row of the input once?"""
    from tamis.service.batch.output import verify_batch

    report = verify_batch(outs)
    for kind in ("missing", "damaged", "stray", "failed"):
        found = getattr(report, kind)
        for one in found[:10]:
            # a file name may be invalid UTF-8, which standard output refuses
            typer.echo(f"{kind}: {one.encode('utf-8', 'backslashreplace').decode()}")
        if len(found) > 10:
            typer.echo(f"{kind}: and {len(found) - 10:,} more")
    state = "whole" if report.is_whole else "not whole"
    typer.echo(
        f"{report.rows:,} rows in {report.parts:,} parts: {state}, {len(report.failed):,} failed"
    )
    print_passed_over(report.passed_over)
    if not report.is_whole or report.failed or report.passed_over:
        raise typer.Exit(EXIT_ROWS_FAILED)
