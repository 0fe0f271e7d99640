"""`tamis lab bench search`: what the searches of an index's keys find, read, take and cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from tamis.probes.errors import BadInput
from tamis.service.cli.display.console import make_console
from tamis.service.cli.display.errors import report_errors
from tamis.service.cli.options.compress_options import AsJson
from tamis_lab.options.bars import record_bars, stage_bars
from tamis_lab.options.bench_options import parse_list, parse_sizes
from tamis_lab.options.output_files import check_images

EPILOG = """
**What is measured**

Each structure is built over the keys of the index and asked all questions; what it finds is
compared with the exact search. Beyond the size of the index, chunks are drawn that are like its
own: their keys are moved as far as near keys lie apart, and they have no text.

**Examples**

`tamis lab bench search docs.index --questions asked.txt`

`tamis lab bench search scifact.index --questions queries.jsonl --sizes 1000000,3000000,10000000
--keep built --plot recall.png --plot-growth growth.png --json > search.json`; rows of
`{"query", "qrels": {"id": 1}}` also give nDCG@10
"""


@report_errors()
def search(
    index: Annotated[Path, typer.Argument(metavar="INDEX", help="An index with keys.")],
    questions: Annotated[
        Path, typer.Option(help="A question a line, or rows (.jsonl) with `query` and `qrels`.")
    ],
    sizes: Annotated[
        str | None,
        typer.Option(help="Tokens, with commas. Default: all of the index.", show_default=False),
    ] = None,
    structures: Annotated[
        str, typer.Option(help="Which to build: graph, ivf, hnsw.")
    ] = "graph,ivf",
    limit: Annotated[int, typer.Option(min=1, help="At most so many questions.")] = 100,
    keep: Annotated[
        Path | None,
        typer.Option(help="Keep what is built here; the same command then goes on."),
    ] = None,
    drawn_beyond: Annotated[
        int | None,
        typer.Option(min=1, help="Draw chunks beyond so many tokens of text, to check them."),
    ] = None,
    as_json: AsJson = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw recall against keys read here (.png, .svg).")
    ] = None,
    plot_growth: Annotated[
        Path | None, typer.Option(help="Draw milliseconds against tokens here (.png, .svg).")
    ] = None,
) -> None:
    """Compare the searches of an index's keys, at one or more sizes."""
    from tamis.retrieval.index.store import CorpusIndex
    from tamis_lab.bench.evidence.tally import environment_facts
    from tamis_lab.bench.search.plots import draw_growth, draw_recall
    from tamis_lab.bench.search.run import STRUCTURES, SearchRun, load_asked

    names = parse_list(structures, "structures")
    if odd := [name for name in names if name not in STRUCTURES]:
        raise BadInput(f"there is no structure {odd[0]!r}; choose from {', '.join(STRUCTURES)}")
    check_images(plot)
    check_images(plot_growth)
    found = CorpusIndex.open(index)
    if "keys" not in found.legs:
        raise BadInput(f"{index} indexes words alone: it has no keys to search")
    lengths = sorted(parse_sizes(sizes.replace("_", ""), "sizes")) if sizes else []
    asked = load_asked(questions, limit)
    run = SearchRun(found, asked, lengths, names, bool(plot), keep, drawn_beyond)
    with record_bars() as progress:
        report = run.report(stage_bars(progress))
    report |= {"questions": len(run.questions), **environment_facts()}
    if as_json:
        typer.echo(json.dumps(report, indent=1))
    else:
        _print_report(report)
    for path, draw in ((plot, draw_recall), (plot_growth, draw_growth)):
        if path:
            draw(report, path)
            typer.echo(f"wrote {path}", err=True)


def _print_report(report: dict[str, Any]) -> None:
    columns = {
        "recall_at_10": ".3f",
        "recall_at_10_keys": ".3f",
        "ndcg_at_10": ".3f",
        "keys_read": ".2%",
        "ms_p50": ".1f",
        "ms_p95": ".1f",
        "cpu_ms_p50": ".1f",
        "build_s": ".1f",
        "bytes_a_token": ".1f",
    }
    for row in report["sizes"]:
        title = f"{row['tokens']:,} keys, {row['real_tokens']:,} of text; {row['chunks']:,} chunks"
        table = Table(title=title, title_justify="left", title_style="bold")
        table.add_column("search", no_wrap=True)
        for name in columns:
            table.add_column(name.replace("_", " "), justify="right")
        for system, figures in row["systems"].items():
            cells = [format(figures[n], f) if n in figures else "" for n, f in columns.items()]
            table.add_row(system, *cells)
        make_console().print(table)
    slopes = [
        f"{name} {slope:.2f}" for name, slope in report["growth"].items() if slope is not None
    ]
    if slopes:
        make_console().print(f"log-log slope of CPU ms over tokens: {', '.join(slopes)}")
