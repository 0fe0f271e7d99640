"""`tamis rerank`: sorts the documents of files, folders or a pipe by how well they answer."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tamis.compressors.options import Option
from tamis.compressors.registry import DEFAULT
from tamis.compressors.types import Ranked, Reranked, to_probability
from tamis.probes.errors import BadInput
from tamis.service.cli.display.output import dump_json, make_console, print_note, printable
from tamis.service.cli.options.compress_options import MAX_INPUT_TOKENS, SHARED
from tamis.service.cli.options.model_folder import HomeFolder, models_folder
from tamis.service.cli.options.typer_options import (
    gate_options,
    parse_fuse,
    parse_options,
    takes_options,
)
from tamis.service.files.command_inputs import InputOptions, gather_inputs, standard_input
from tamis.service.files.document_text import InputFormat
from tamis.text.inputs import check_question_length

_BYTES_A_TOKEN = 64
EPILOG = """
**Examples**

`tamis rerank docs/ -q "How are keys rotated?" --top-n 5`

`tamis rerank docs/ -q "How are keys rotated?" --json | jq -r '.results[].id'`

`tamis rerank found.json --first-stage order --fuse rrf`, where found.json holds
`{"question": "...", "documents": ["...", {"id": "a", "title": "...", "text": "..."}]}`, best first

`tamis rerank docs/ -q "How are keys rotated?" --method lexical` needs no model
"""


@takes_options(
    SHARED,
    question=Option("What the documents shall answer.", short="-q"),
    top_n=Option("Show the N best only.", short="-n"),
    method=Option("Of reranking or of compression: see `tamis methods`."),
    first_stage=Option(
        "What found the documents: `order` where they come best first, or a JSON file with a list "
        "of scores, one per document, higher is better.",
        metavar="order|FILE",
    ),
    fuse=Option(
        "How it is joined with the method: by a fitted weight, by reciprocal ranks, or the weight "
        "of the method from 0 to 1. `fitted` if a first stage is given.",
        metavar="fitted|rrf|WEIGHT",
    ),
    min_score=Option(
        "Leave out documents whose own probability of holding an answer is lower, from 0 to 1."
    ),
    read_metadata=Option(
        "Read this field of a document's metadata with it, such as date or speaker; repeatable.",
        metavar="NAME",
    ),
    as_object=Option("Print one JSON object: scores, spans, counts.", flag="--json"),
    quiet=Option("Neither progress nor summary on standard error."),
)
def rerank(
    paths: list[str] | None = None,
    question: str | None = None,
    top_n: int | None = None,
    method: str = DEFAULT,
    first_stage: str | None = None,
    fuse: str | None = None,
    min_score: float | None = None,
    read_metadata: list[str] | None = None,
    proxy: str = "auto",
    quality: str = "standard",
    option: list[str] | None = None,
    probe: Path | None = None,
    rank_probe: Path | None = None,
    gate: str = "auto",
    cascade: bool = True,
    as_object: bool = False,
    quiet: bool = False,
    language: str = "auto",
    encoding: str = "utf-8",
    input_format: InputFormat = InputFormat.auto,
    max_input: int = MAX_INPUT_TOKENS,
    offline: bool = False,
    home: HomeFolder = None,
) -> None:
    """Sort documents by how well they answer a question; of any number and length."""
    reading = InputOptions(encoding, max_input * _BYTES_A_TOKEN, input_format)
    found = gather_inputs(paths or (), standard_input(), reading)
    if not quiet and (passed_over := found.skipped_note()):
        print_note(passed_over)
    query = check_question_length(found.question(question))
    stage = parse_first_stage(first_stage)
    joined = None if fuse is None else parse_fuse(fuse)

    from tamis.compressors.pipeline.reranking import Reranker
    from tamis.service.api.languages import choose_proxy, probe_option
    from tamis.service.api.lazy_method import LazyMethod
    from tamis.service.cli.options.default_proxy import fetch_default_proxy

    flags: dict[str, Any] = {"probe": probe, "rank_probe": rank_probe}
    options = parse_options(option, **flags, **gate_options(gate, cascade))
    models = models_folder(home)
    choice = choose_proxy(
        proxy, method, language, query, found.passages, models, probe_option(options), quality
    )
    lazy_method = LazyMethod(method, choice.proxy, models, use="reranking", **options)
    if lazy_method.info.needs_proxy:
        fetch_default_proxy(choice.proxy, models, offline)
    with proxy_progress(lazy_method, options, quiet):
        result = Reranker(lazy_method, method).rerank(
            query,
            found.passages,
            top_n=top_n,
            first_stage=stage,
            fuse=joined,
            min_score=min_score,
            read_metadata=read_metadata or (),
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
    from tamis.service.cli.display.bars import ProgressReader, task_bar

    is_seen = Console(stderr=True).is_terminal
    with task_bar(f"loading {lazy_method.proxy}", quiet=not is_seen) as (bar, task):
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


_SNIPPET_CHARS = 160
_LABEL_CHARS = 44
_LABEL_SHARE = 3


def ranking_json(result: Reranked) -> dict[str, Any]:
    """Results best first, as the service responds; with the best sentence if any was scored.

    `relevance_score` is in [0, 1] for every method, `own_score` the method's own number; beside a
    first stage it is what both were joined to.
    """
    best = best_units(result)
    return {
        "results": [_document_json(one, result, best.get(one.index)) for one in result.results],
        "counts": {
            "windows": result.windows,
            "tokens_scored": result.tokens_read,
            "truncated": False,
        },
        "calibrated": result.calibrated,
        "timings": {f"{name}_ms": round(ms, 3) for name, ms in result.timings_ms.items()},
        "method": result.method,
        "warnings": list(result.warnings),
    }


def _document_json(ranked: Ranked, result: Reranked, best: int | None) -> dict[str, Any]:
    alone = to_probability(ranked.own, result.calibrated)
    row: dict[str, Any] = {
        "index": ranked.index,
        "id": result.passages[ranked.index].id,
        "relevance_score": alone if ranked.first is None else _finite(ranked.score),
        "own_score": _finite(ranked.own),
        "first_stage_score": _finite(ranked.first),
        "relevant_spans": [],
    }
    if best is not None:
        start, end = result.units[best].visible
        row["relevant_spans"] = [{"start": start, "end": end, "score": result.scores[best]}]
    return row


def _finite(value: float | None) -> float | None:
    """None for an infinite score, that of a document without text: JSON has no infinity."""
    return value if value is not None and math.isfinite(value) else None


def best_units(result: Reranked) -> dict[int, int]:
    """The best sentence of each document, the first of equals; none where they were not scored."""
    found: dict[int, int] = {}
    for u, unit in enumerate(result.units):
        if result.scores[u] > result.scores[found.setdefault(unit.passage, u)]:
            found[unit.passage] = u
    return found


def ranking_table(result: Reranked, width: int) -> Table:
    """A row per document: score, name, and its best sentence or its beginning.

    Only the last column shrinks on a screen of `width`: where no column may wrap, rich shrinks
    columns to nothing.
    """
    fused = any(ranked.first is not None for ranked in result.results)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("#", justify="right", no_wrap=True)
    for name in ("score", "own", "first") if fused else ("score",):
        table.add_column(name, justify="right", no_wrap=True)
    chars = max(1, min(_LABEL_CHARS, width // _LABEL_SHARE))
    table.add_column("document", overflow="fold", max_width=chars)
    table.add_column("best sentence" if result.units else "text")
    labels, best = _labels(result, chars), best_units(result)
    for place, (ranked, label) in enumerate(zip(result.results, labels, strict=True), 1):
        numbers = [ranked.score, ranked.own, ranked.first] if fused else [ranked.score]
        snippet = _snippet(ranked, result, best.get(ranked.index))
        table.add_row(str(place), *map(_number, numbers), Text(printable(label)), snippet)
    return table


def _number(value: float | None) -> str:
    return "-" if _finite(value) is None else f"{value:.4g}"


def _labels(result: Reranked, chars: int) -> list[str]:
    """Names, of long ones the end, which distinguishes files; whole names where it does not."""
    passages = [(ranked.index, result.passages[ranked.index]) for ranked in result.results]
    names = [p.id or p.title or f"document {i + 1}" for i, p in passages]
    cut = [name if len(name) <= chars else f"…{name[len(name) - chars + 1 :]}" for name in names]
    return cut if len(set(cut)) == len(set(names)) else names


def _snippet(ranked: Ranked, result: Reranked, best: int | None) -> Text:
    text = result.passages[ranked.index].text
    excerpt = text if best is None else text[slice(*result.units[best].visible)]
    line = " ".join(excerpt[:_SNIPPET_CHARS].split())
    return Text(printable(line), no_wrap=True, overflow="ellipsis")


def totals_text(result: Reranked) -> str:
    """Documents, tokens, windows and time, in a line."""
    seconds = result.timings_ms.get("total", 0.0) / 1e3
    return (
        f"{len(result.passages)} documents, {result.tokens_read:,} tokens read in "
        f"{result.windows} windows, {seconds:.1f} s, {result.method}"
    )
