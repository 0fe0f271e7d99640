"""`bench retrieval`: how well the corpus index finds documents, by each search and fused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from tamis.compressors.registry import DEFAULT_PROXY
from tamis.probes.errors import BadInput
from tamis.probes.hub.cache_dir import cache_home
from tamis.service.cli.display.console import make_console
from tamis.service.cli.display.errors import report_errors
from tamis.service.cli.options.compress_options import AsJson
from tamis_lab.options.bars import record_bars
from tamis_lab.options.bench_options import ProxyName

if TYPE_CHECKING:
    from tamis_lab.bench.ranking.retrieval import RetrievalTask

SHARED_DATA = Path("../shared/data")
POOL = ("xquad_en", "hotpotqa", "2wikimultihopqa")
EPILOG = """
**Examples**

`tamis lab bench retrieval --corpus corpus.jsonl --queries queries.jsonl`, rows of
`{"id", "title", "text"}` and of `{"query", "qrels": {"id": 1}}`

`tamis lab bench retrieval --records dev.jsonl.gz --json` pools the passages of labelled records

`tamis lab bench retrieval --no-model --corpus corpus.jsonl --queries queries.jsonl` is BM25 alone
"""


@report_errors()
def retrieval(
    corpus: Annotated[Path | None, typer.Option(help="Rows of documents.")] = None,
    queries: Annotated[Path | None, typer.Option(help="Rows of queries with `qrels`.")] = None,
    records: Annotated[
        list[Path] | None,
        typer.Option(help="Labelled records, whose passages make one corpus; repeatable."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Ask only N queries; all documents stay.")
    ] = None,
    no_model: Annotated[bool, typer.Option("--no-model", help="Without keys.")] = False,
    vectors: Annotated[str, typer.Option(help="minilm, or none.")] = "minilm",
    proxy: ProxyName = DEFAULT_PROXY,
    cache: Annotated[
        Path | None, typer.Option(help="Where indexes are kept. Default: the user's cache.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the intervals.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Compare BM25, attention keys, sentence vectors and their fusion at finding documents.

    Without a corpus: SciFact and the pooled passages of dev/ in ../shared/data, where they are.
    """
    from tamis.service.api.index import index_settings, load_readers, open_index
    from tamis_lab.bench.ranking.retrieval import measure_index

    home = cache or cache_home() / "retrieval"
    settings = index_settings(
        model=not no_model,
        vectors=None if vectors == "none" else vectors,
        proxy=proxy,
        chunk_chars=6000,
    )
    found: dict[str, Any] = {}
    for task in _retrieval_tasks(corpus, queries, records or (), limit):
        folder = home / f"{task.name}-{_index_key(task, settings)}"
        readers = None if (folder / "manifest.json").is_file() else load_readers(settings)
        _build_index(folder, task, settings, readers)
        index = open_index(folder)
        with record_bars() as progress:
            bar = progress.add_task(f"{task.name}: asking", total=len(task.queries))
            found[task.name] = measure_index(index, task, partial(progress.advance, bar), seed)
    if as_json:
        typer.echo(json.dumps({"chunk_chars": settings.chunk_chars, "tasks": found}, indent=1))
        return
    for name, of in found.items():
        make_console().print(_table(name, of))
        make_console().print(_differences_text(of))


def _retrieval_tasks(
    corpus: Path | None, queries: Path | None, records: Any, limit: int | None
) -> list[RetrievalTask]:
    from dataclasses import replace

    from tamis_lab.bench.ranking.retrieval import load_judged_task, pool_records

    if (corpus is None) != (queries is None):
        raise BadInput("--corpus and --queries go together; give both, or --records")
    tasks = []
    if corpus is not None and queries is not None:
        tasks.append(load_judged_task(corpus.name.split(".")[0], corpus, queries))
    if records:
        tasks.append(pool_records("records", records, limit))
    if not tasks:
        if not SHARED_DATA.is_dir():
            raise BadInput("name a corpus: --corpus with --queries, or --records")
        rerank = SHARED_DATA / "rerank"
        names = ("scifact_corpus.jsonl.gz", "scifact_queries.jsonl.gz")
        tasks = [
            load_judged_task("scifact", *(rerank / name for name in names)),
            pool_records("dev", [SHARED_DATA / "dev" / f"{name}.jsonl.gz" for name in POOL], limit),
        ]
    return [replace(task, queries=task.queries[:limit]) if limit else task for task in tasks]


def _index_key(task: RetrievalTask, settings: Any) -> str:
    """Identifies the index of a corpus with some settings."""
    from tamis.retrieval.storage.manifest import FORMAT

    found = hashlib.blake2b(repr((FORMAT, settings)).encode(), digest_size=8)
    for document in task.documents:
        found.update(repr((document.id, document.title, document.text)).encode())
    return found.hexdigest()


def _build_index(folder: Path, task: RetrievalTask, settings: Any, readers: Any) -> None:
    """Builds the index of a task unless it is complete; an interrupted build resumes."""
    from tamis.retrieval.index.writer import create_index
    from tamis.retrieval.storage.manifest import Manifest
    from tamis.service.api.index import load_readers

    if (folder / "manifest.json").is_file() and Manifest.read(folder).complete:
        return
    with (
        record_bars() as progress,
        create_index(folder, settings, readers or load_readers(settings)) as w,
    ):
        bar = progress.add_task(f"{task.name}: reading", total=len(task.documents))
        w.put(task.documents, lambda *_: progress.advance(bar))
        w.finish()


def _table(name: str, of: Mapping[str, Any]) -> Table:
    title = f"{name}: {of['queries']} queries, {of['documents']:,} documents"
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("system", no_wrap=True)
    metrics = [key for key in next(iter(of["systems"].values()))]
    for metric in metrics:
        table.add_column(metric, justify="right", no_wrap=True)
    for system, row in of["systems"].items():
        cells = [f"{row[m]:.1f}" if m == "ms" else f"{row[m]:.3f}" for m in metrics]
        table.add_row(system, *cells)
    return table


def _differences_text(of: Mapping[str, Any]) -> Text:
    """The lead of fused systems in nDCG@10."""
    text = Text("nDCG@10 ahead [95 % interval]\n")
    for pair, row in of["ahead"].items():
        d = row["ndcg@10"]
        style = "green" if d["low"] > 0 else "red" if d["high"] < 0 else "dim"
        text.append(f"{pair}: {d['difference']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}]\n", style)
    return text
