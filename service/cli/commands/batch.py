"""`tamis batch`: corpora of any size, row by row, in parts, taken up where it stopped."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from typing import Annotated

import typer

from tamis.probes.errors import BadInput
from tamis.service.batch.job import Cut, Fields, Format, Job
from tamis.service.cli.display.errors import reported
from tamis.service.cli.options import batch_options as bat
from tamis.service.cli.options import options as opt
from tamis.service.cli.options import protect as pro
from tamis.service.cli.options.budget_rules import budget_of, rules_of
from tamis.service.cli.options.model_folder import Home, models_folder

EPILOG = """
A row is `{"id", "query", "documents": ["text", {"id", "text", "title", "metadata"}]}` or
`{"id", "query", "context": "text"}`. Rows come out as they went in, with `compressed`, `spans`,
`scores`, `tokens_in`, `tokens_out`, `status` and `error`.

Exit status: 0 all rows are done; 1 some rows failed, or parts are missing or damaged; 2 the call
cannot be carried out; 130 interrupted. Whatever stopped it: the same command goes on.

**Examples**

`tamis batch run questions.jsonl -o out/ --max-tokens 500`

`tamis batch run corpus/*.parquet -o out/ --query "Who was hurt?" --context-field body --ratio 0.2`

`tamis batch run notes/ -o out/ --query "What was decided?" --method lexical --workers 4`

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
ROWS_FAILED = 1


@app.command("run", epilog=EPILOG)
@reported()
def run(
    inputs: bat.Inputs,
    out: bat.Out,
    query: bat.Query = None,
    max_tokens: opt.MaxTokens = None,
    ratio: opt.Ratio = None,
    threshold: opt.Threshold = None,
    coverage: opt.Coverage = None,
    instruction: opt.Instruction = None,
    tokenizer: opt.Tokenizer = "proxy",
    method: opt.Method = "question_rows",
    proxy: opt.Proxy = "auto",
    probe: opt.Probe = None,
    cache: opt.Cache = None,
    engine: bat.EngineOf = bat.Engine.local,
    workers: bat.Workers = 1,
    gpus: bat.Gpus = 0.0,
    shard: bat.Shard = "1/1",
    dry_run: bat.DryRun = False,
    on_error: bat.IfFailing = bat.OnError.keep,
    share: bat.Share = True,
    retry_errors: bat.RetryErrors = False,
    overwrite: bat.Overwrite = False,
    quiet: bat.Quiet = False,
    id_field: bat.IdField = "id",
    query_field: bat.QueryField = "query",
    history_field: bat.HistoryField = None,
    docs_field: bat.DocsField = "documents",
    context_field: bat.ContextField = "context",
    text_field: bat.TextField = "text",
    prefix: bat.Prefix = "",
    format: bat.FormatOf = None,
    part_rows: bat.PartRows = 256,
    part_mb: bat.PartMb = 8,
    protect: pro.Protect = None,
    protect_numbers: pro.Numbers = False,
    protect_urls: pro.Urls = False,
    context_window: opt.ContextWindow = 0,
    dedup: opt.Dedup = None,
    top_n: opt.TopN = None,
    keep_tags: pro.KeepTags = False,
    if_unanswerable: opt.IfUnanswerable = opt.Unanswerable.best_effort,
    granularity: opt.GranularityOf = opt.Granularity.sentence,
    answerable_floor: opt.AnswerableFloor = opt.ANSWERABLE_FLOOR,
    citations: opt.Citations = None,
    titles: opt.Titles = False,
    elision: opt.Elision = None,
    separator: opt.Separator = "\\n\\n",
    order: opt.OrderBy = opt.Order.original,
    language: opt.Spoken = "auto",
    encoding: opt.Encoding = "utf-8",
    max_input: opt.MaxInput = opt.MAX_INPUT_TOKENS,
    offline: opt.Offline = False,
    root: Home = None,
) -> None:
    """Compress every row of the input; run it again to go on where it stopped."""
    from tamis.service.batch.execution.preflight import check
    from tamis.service.batch.run_options import RunOptions
    from tamis.service.cli.options.default_proxy import read_by

    rules = rules_of(
        protect=pro.patterns_of(protect, protect_numbers, protect_urls),
        context_window=context_window,
        dedup=dedup,
        order=order,
        separator=separator,
        elision=elision,
        citations=citations,
        titles=titles,
        top_n=top_n,
        keep_tags=keep_tags,
        answerable_floor=answerable_floor,
        if_unanswerable=if_unanswerable,
        granularity=granularity,
    )
    job = Job(
        budget=budget_of(max_tokens, ratio, threshold, coverage),
        rules=rules,
        method=method,
        proxy=proxy,
        probe=None if probe is None else str(probe),
        tokenizer=tokenizer,
        language=language,
        encoding=encoding,
        query=query,
        instruction=instruction,
        cache=None if cache is None else str(cache.absolute()),
        fields=Fields(id_field, query_field, docs_field, context_field, text_field, history_field),
        max_input=max_input,
        prefix=prefix,
        format=_format(format, inputs, out),
        cut=Cut(part_rows, part_mb << 20),
        root=str(models_folder(root)),
        share=share,
    )
    check(job)
    job = read_by(job, inputs, out)
    call = RunOptions(
        tuple(inputs),
        out,
        engine.value,
        workers,
        gpus,
        _shard(shard),
        on_error is bat.OnError.stop,
        retry_errors,
        overwrite,
    )
    _fetch(job, offline)
    if dry_run:
        _forecast(job, call)
    else:
        _carry_out(job, call, quiet)


def _fetch(job: Job, offline: bool) -> None:
    """Fetches the default proxy if it is needed and missing, and may be."""
    from pathlib import Path

    from tamis.service.api.lazy_method import LazyMethod
    from tamis.service.cli.options.default_proxy import ensure_default

    root = Path(job.root) if job.root else None
    ensure_default(LazyMethod(job.method, job.proxy, root, **job.options), job.tokenizer, offline)


def _carry_out(job: Job, call: bat.RunOptions, quiet: bool) -> None:
    from tamis.service.batch.execution.run import begin, run
    from tamis.service.batch.execution.worker import RowFailed
    from tamis.service.cli.display.batch import Show, say_summary, surveying

    clock = time.monotonic()
    with surveying(quiet):
        begun = begin(job, call)
    rows_now = begun.rows_left
    if begun.summary.parts and not quiet:
        typer.echo(f"{begun.summary.parts:,} of {begun.parts:,} parts are done already", err=True)
    if begun.parts < call.workers and not quiet:
        typer.echo(
            f"{begun.parts:,} parts for {call.workers} workers: some have nothing to do; "
            "--part-rows cuts smaller ones",
            err=True,
        )
    in_here = call.engine == "local" and call.workers == 1
    try:
        with _stopping(), Show(rows_now, quiet) as show:
            tick, part = (show.tick, None) if in_here else (None, show.part)
            summary = run(job, call, begun, part, tick)
    except RowFailed as error:
        typer.echo(f"tamis: {error}", err=True)
        raise typer.Exit(ROWS_FAILED) from error
    except KeyboardInterrupt:
        typer.echo(f"{begun.summary.parts:,} of {begun.parts:,} parts are done", err=True)
        raise
    if not quiet:
        say_summary(summary, call.out, time.monotonic() - clock, rows_now)
    if summary.failed:
        raise typer.Exit(ROWS_FAILED)


@contextlib.contextmanager
def _stopping() -> Iterator[None]:
    """A polite SIGTERM, as schedulers send it, ends a run as Ctrl-C does."""
    import signal

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _forecast(job: Job, call: bat.RunOptions) -> None:
    from tamis.service.batch.execution.estimate import estimate
    from tamis.service.batch.execution.run import agreed
    from tamis.service.batch.output import Output
    from tamis.service.cli.display.batch import forecast

    before = None if call.overwrite else Output(call.out).plan()
    typer.echo(forecast(estimate(job, agreed(job, call, before)), call.workers))


def _format(given: str | None, inputs: list[str], out: str) -> Format:
    """The one asked for, else Parquet where every input is Parquet."""
    from tamis.service.batch.job import FORMATS
    from tamis.service.files.sources import find_sources

    if given is None:
        kinds = {source.kind for source in find_sources(inputs, out)}
        return "parquet" if kinds == {"parquet"} else "jsonl"
    for known in FORMATS:
        if given == known:
            return known
    raise BadInput(f"there is no format {given!r}; choose from {', '.join(FORMATS)}")


def _shard(given: str) -> tuple[int, int]:
    if not (found := re.fullmatch(r"(\d+)/(\d+)", given)):
        raise BadInput(f"--shard is {given!r}; give the share and how many there are, such as 1/4")
    return int(found[1]), int(found[2])


@app.command("merge", epilog="`tamis batch merge out/ -o all.jsonl.gz`")
@reported()
def merge(
    outs: bat.Outs,
    target: bat.Target,
    partial: Annotated[
        bool, typer.Option("--partial", help="Merge what there is, though parts are missing.")
    ] = False,
) -> None:
    """Join the parts of one batch, of all its shards, to one file, in the order of the input."""
    from tamis.service.batch.check import merge as join

    typer.echo(f"{join(outs, target, partial=partial):,} rows in {target}", err=True)


@app.command("verify", epilog="`tamis batch verify out-1/ out-2/`")
@reported()
def verify(outs: bat.Outs) -> None:
    """Read every part again: is each there, whole, with every row of the input once?"""
    from tamis.service.batch.check import verify as check

    verdict = check(outs)
    for kind in ("missing", "damaged", "stray", "failed"):
        found = getattr(verdict, kind)
        for one in found[:10]:
            # names of files may be none in UTF-8, which standard output refuses
            typer.echo(f"{kind}: {one.encode('utf-8', 'backslashreplace').decode()}")
        if len(found) > 10:
            typer.echo(f"{kind}: and {len(found) - 10:,} more")
    state = "whole" if verdict.whole else "not whole"
    typer.echo(
        f"{verdict.rows:,} rows in {verdict.parts:,} parts: {state}, {len(verdict.failed):,} failed"
    )
    if not verdict.whole or verdict.failed:
        raise typer.Exit(ROWS_FAILED)
