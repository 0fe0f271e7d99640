"""`tamis rerank`: sorts the documents of files, folders or a pipe by how well they answer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tamis.compressors.registry import DEFAULT
from tamis.compressors.types import Reranked
from tamis.probes.errors import BadInput
from tamis.service.cli.display.console import make_console
from tamis.service.cli.display.errors import report_errors
from tamis.service.cli.display.ranking import ranking_json, ranking_table, totals_text
from tamis.service.cli.display.text import dump_json, print_note, printable
from tamis.service.cli.options import compress_options as opt
from tamis.service.cli.options.method_options import (
    Cascade,
    GateOption,
    gate_options,
    parse_fuse,
)
from tamis.service.cli.options.model_folder import RootFolder, models_folder
from tamis.service.documents.document_text import InputFormat
from tamis.service.files.command_inputs import InputOptions, gather_inputs, standard_input

_BYTES_A_TOKEN = 64
EPILOG = """
**Examples**

`tamis rerank docs/ -q "How are keys rotated?" --top-n 5`

`tamis rerank docs/ -q "How are keys rotated?" --json | jq -r '.results[].id'`

`tamis rerank found.json --first-stage order --fuse rrf`, where found.json holds
`{"question": "...", "documents": ["...", {"id": "a", "title": "...", "text": "..."}]}`, best first

`tamis rerank docs/ -q "How are keys rotated?" --method lexical` needs no model
"""

TopN = Annotated[int | None, typer.Option("--top-n", "-n", help="Show the N best only.")]
Method = Annotated[
    str, typer.Option("--method", help="Of reranking or of compression: see `tamis methods`.")
]
FirstStage = Annotated[
    str | None,
    typer.Option(
        "--first-stage",
        metavar="order|FILE",
        help="What found the documents: `order` where they come best first, or a JSON file with "
        "a list of scores, one per document, higher is better.",
        show_default=False,
    ),
]
FuseBy = Annotated[
    str | None,
    typer.Option(
        "--fuse",
        metavar="fitted|rrf|WEIGHT",
        help="How it is joined with the method: by a fitted weight, by reciprocal ranks, or the "
        "weight of the method from 0 to 1. `fitted` if a first stage is given.",
        show_default=False,
    ),
]


@report_errors()
def rerank(
    paths: opt.Paths = None,
    question: Annotated[
        str | None, typer.Option("--question", "-q", help="What the documents shall answer.")
    ] = None,
    top_n: TopN = None,
    method: Method = DEFAULT,
    first_stage: FirstStage = None,
    fuse: FuseBy = None,
    proxy: opt.Proxy = "auto",
    quality: opt.Quality = "standard",
    probe: opt.Probe = None,
    rank_probe: opt.RankProbe = None,
    gate: GateOption = "auto",
    cascade: Cascade = True,
    as_object: Annotated[
        bool, typer.Option("--json", help="Print one JSON object: scores, spans, counts.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Neither progress nor summary on standard error.")
    ] = False,
    language: opt.DocumentLanguage = "auto",
    encoding: opt.Encoding = "utf-8",
    input_format: opt.InputFormatOption = InputFormat.auto,
    max_input: opt.MaxInput = opt.MAX_INPUT_TOKENS,
    offline: opt.Offline = False,
    root: RootFolder = None,
) -> None:
    """Sort documents by how well they answer a question; of any number and length."""
    reading = InputOptions(encoding, max_input * _BYTES_A_TOKEN, input_format)
    found = gather_inputs(paths or (), standard_input(), reading)
    if not quiet and (passed_over := found.skipped_note()):
        print_note(passed_over)
    query, stage = found.question(question), parse_first_stage(first_stage)
    joined = None if fuse is None else parse_fuse(fuse)

    from tamis.compressors.pipeline.reranking import Reranker
    from tamis.service.api.languages import choose_proxy, probe_option
    from tamis.service.api.lazy_method import LazyMethod
    from tamis.service.cli.options.default_proxy import fetch_default_proxy

    given = {"probe": probe, "rank_probe": rank_probe}
    options: dict[str, Any] = {name: file for name, file in given.items() if file is not None}
    options |= gate_options(gate, cascade)
    models = models_folder(root)
    choice = choose_proxy(
        proxy, method, language, query, found.passages, models, probe_option(options), quality
    )
    lazy_method = LazyMethod(method, choice.proxy, models, use="reranking", **options)
    if lazy_method.info.needs_proxy:
        fetch_default_proxy(lazy_method, "", offline)
    with proxy_progress(lazy_method, options, quiet):
        result = Reranker(lazy_method, method).rerank(
            query,
            found.passages,
            top_n=top_n,
            first_stage=stage,
            fuse=joined,
            language=choice.language,
        )
    result = choice.add_warning(result)
    result = replace(result, warnings=(*result.warnings, *found.notes()))
    print_ranking(result, as_object, quiet)


def parse_first_stage(given: str | None) -> Any:
    """The value of `--first-stage`: `order`, or the scores in a JSON file.

    Raises:
        BadInput: the file cannot be read, or does not hold a list.
    """
    if given is None or given == "order":
        return given
    try:
        scores = json.loads(Path(given).read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(
            f"--first-stage {given} is neither 'order' nor a JSON file ({error})"
        ) from error
    if not isinstance(scores, list):
        raise BadInput(f"{given} holds no list; give a JSON list of scores, one per document")
    return scores


@contextmanager
def proxy_progress(lazy_method: Any, options: Mapping[str, Any], quiet: bool) -> Iterator[None]:
    """A bar on standard error while the proxy is loaded and reads; none without a proxy."""
    if quiet or not lazy_method.info.needs_proxy:
        yield
        return
    from tamis.compressors.registry import layers_needed, load_proxy
    from tamis.service.cli.display.progress_reader import ProgressReader

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    with Progress(
        *columns,
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task(f"loading {lazy_method.proxy}", total=None)
        layers = layers_needed(lazy_method.name, lazy_method.proxy, **options)
        reader = load_proxy(lazy_method.proxy, layers, lazy_method.root)
        bar.update(task, description="reading")

        def report(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        lazy_method.proxy = ProgressReader(reader, report)
        yield


def print_ranking(result: Reranked, as_object: bool, quiet: bool) -> None:
    """Prints the ranking to standard output, and a summary to standard error."""
    if as_object:
        typer.echo(dump_json(ranking_json(result)))
        return
    console = make_console()
    console.print(ranking_table(result, console.width))
    if not quiet:
        for line in (totals_text(result), *map(printable, result.warnings)):
            make_console(stderr=True, markup=False).print(line, style="dim")
