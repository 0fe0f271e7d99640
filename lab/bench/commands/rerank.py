"""`bench rerank`: compares a reranking method with its first stage and a sentence encoder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tamis.compressors.registry import DEFAULT
from tamis.probes.errors import ProxyMissing
from tamis.service.cli.display.console import make_console
from tamis.service.cli.display.errors import report_errors
from tamis.service.cli.options.compress_options import AsJson
from tamis.service.cli.options.method_options import parse_fuse
from tamis_lab.options.bench_options import SHARP, parse_options
from tamis_lab.options.output_files import check_targets

if TYPE_CHECKING:
    from tamis_lab.bench.ranking.rerank import RerankSettings

EPILOG = """
**Examples**

`tamis lab bench rerank queries.jsonl.gz --corpus corpus.jsonl.gz --depth 30 --out rankings.jsonl`

`tamis lab bench rerank queries.jsonl --corpus corpus.jsonl --method icr --fuse rrf --limit 50`

`tamis lab bench rerank queries.jsonl --corpus corpus.jsonl --method icr --option calibrate=false`

A query is a line `{"qid", "query", "qrels": {docid: grade}, "candidates": {"bm25": [[docid, score],
...]}}`, a document is a line `{"docid", "title", "text"}`. A line of the rankings is
`{"qid", "ranking": [docid, ...]}` and what it cost; a run that was cut short goes on.
"""


@report_errors()
def rerank(
    queries: Annotated[
        Path, typer.Argument(help="Queries with candidates, JSON Lines, optionally gzipped.")
    ],
    corpus: Annotated[
        Path, typer.Option("--corpus", help="The documents, JSON Lines, optionally gzipped.")
    ],
    method: Annotated[str, typer.Option(help="See `tamis methods`.")] = DEFAULT,
    depth: Annotated[int, typer.Option(min=1, help="Rerank the first N candidates.")] = 30,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N queries.")] = None,
    fuse: Annotated[
        str, typer.Option(help="fitted, rrf, the method's weight from 0 to 1, or none.")
    ] = "fitted",
    first: Annotated[
        str | None, typer.Option(help="Which candidates, where there are several lists.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Rankings; a run that was cut short goes on.")
    ] = None,
    minilm: Annotated[
        bool, typer.Option(help="Also rank by whole-document cosine of minilm-l6.")
    ] = True,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="NAME=VALUE", help="Of the method; repeatable."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the intervals.")] = 0,
    proxy: Annotated[str, typer.Option(help="A zoo name, or a folder.")] = SHARP,
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder to keep readings in: with another probe a run takes seconds."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Rerank candidates: nDCG@10 and recall@10 beside the first stage and MiniLM."""
    from tamis.service.api.rerank import reranker
    from tamis_lab.bench.ranking import rerank as bench
    from tamis_lab.datasets.qrels import load_corpus, load_queries
    from tamis_lab.datasets.result_file import ResultFile

    check_targets(out)
    loaded, system = load_queries(queries, first)
    options = parse_options(option or (), "window_tokens=2048")
    joined = None if fuse == "none" else parse_fuse(fuse)
    settings = bench.RerankSettings(method, depth, joined, system, proxy, options)
    loaded = loaded[:limit]
    documents = load_corpus(corpus, [d for query in loaded for d, _ in query.candidates[:depth]])
    if cache:
        built = bench.storing_reranker(method, proxy, options, cache)
    else:
        built = reranker(method, proxy, **options)
    peer = bench.DocumentCosine(_load_encoder(), documents, depth) if minilm else None
    results = ResultFile(out, bench.fingerprint(settings, queries, corpus), "qid") if out else None
    rows = bench.load_rankings(out, loaded, depth) if out else {}
    due = [query for query in loaded if query.qid not in rows]
    with _make_progress() as bar:
        task = bar.add_task(f"{method} on {queries.name}", total=len(due))
        for row in bench.rerank_queries(due, documents, built, settings, results):
            rows[row["qid"]] = row
            bar.advance(task)
        task = bar.add_task("judging", total=len(loaded))
        found = bench.system_rankings(
            loaded, rows, settings, peer, lambda done: bar.update(task, completed=done)
        )
    report = {
        "queries": len(loaded),
        "first": system,
        "method": method,
        "depth": depth,
        "fuse": fuse,
        "systems": bench.ranking_figures(loaded, found, settings, seed),
        "median": bench.median_costs([rows[query.qid] for query in loaded]),
    }
    _print_report(report, settings, as_json)


def _load_encoder() -> Any:
    """The sentence encoder to compare with.

    Raises:
        ProxyMissing: it is not installed; the message names both remedies.
    """
    from tamis.compressors.registry import DEFAULT_ENCODER
    from tamis.probes.hub.zoo import locate
    from tamis.probes.model.encoder import Encoder

    try:
        return Encoder.from_folder(locate(DEFAULT_ENCODER))
    except ProxyMissing as error:
        raise ProxyMissing(f"{error}; or leave the peer out with --no-minilm") from error


def _print_report(report: Mapping[str, Any], settings: RerankSettings, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(report))
        return
    console = make_console()
    console.print(_table(report, settings))
    median = report["median"]
    console.print(
        f"{settings.method}, median a query: {median['ms']:,.0f} ms, "
        f"{median['tokens_read']:,.0f} tokens read in {median['windows']:.0f} windows."
    )


def _table(report: Mapping[str, Any], settings: RerankSettings) -> Table:
    """A row per system, with the lead of the method, alone and fused, over each other one."""
    systems = report["systems"]
    mine = [n for n in (settings.method, f"{settings.method}+{settings.first}") if n in systems]
    title = (
        f"{report['queries']} queries, the first {settings.depth} of {settings.first} reranked; "
        "ahead: nDCG@10, 90 % interval over queries"
    )
    table = Table(title=title, title_justify="left")
    table.add_column("system", no_wrap=True)
    for name in ("nDCG@10", "recall@10", *(f"{name} ahead" for name in mine)):
        table.add_column(name, justify="right", no_wrap=True)
    for name, of in systems.items():
        table.add_row(name, *_cells(of, mine), style="bold" if name in mine else "")
    return table


def _cells(of: Mapping[str, Any], mine: Sequence[str]) -> list[str]:
    shown = [f"{of['ndcg@10']:.4f}", f"{of['recall@10']:.4f}"]
    for name in mine:
        ahead = of["ahead"].get(name)
        shown.append(
            f"{ahead['difference']:+.3f} [{ahead['low']:.3f}, {ahead['high']:.3f}]" if ahead else ""
        )
    return shown


def _make_progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
