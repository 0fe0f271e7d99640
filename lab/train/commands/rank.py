"""`tamis lab probe rank`: fits the probe that ranks whole documents."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from tamis.service.cli.display.output import report_errors
from tamis_lab.options.output_files import check_probe_target
from tamis_lab.options.shared import SHARP, OwnProbe

EPILOG = """
**Examples**

`tamis lab probe rank queries.jsonl.gz --corpus corpus.jsonl.gz --out rank.safetensors`

`tamis lab probe rank queries.jsonl --corpus corpus.jsonl --data hotpotqa.jsonl:200 --weight
queries=4 --out rank.safetensors`

`tamis rerank docs/ -q "How are keys rotated?" --rank-probe rank.safetensors` ranks by it; so do
`tamis.rerank(..., rank_probe="rank.safetensors")` and `tamis lab bench rerank ... --option
rank_probe=rank.safetensors`

Queries and corpus are those of `tamis lab bench rerank`; records are those of `tamis lab probe
train`.
"""


@report_errors()
def rank(
    queries: Annotated[
        Path,
        typer.Argument(help="Queries with qrels and candidates, JSON Lines, optionally gzipped."),
    ],
    corpus: Annotated[
        Path, typer.Option("--corpus", help="The documents, JSON Lines, optionally gzipped.")
    ],
    out: Annotated[
        Path, typer.Option("--out", help="Where to write the probe (.safetensors and .json).")
    ],
    data: Annotated[
        list[str] | None,
        typer.Option("--data", help="Labelled records beside, maybe as FILE:LIMIT. Repeatable."),
    ] = None,
    depth: Annotated[int, typer.Option(min=2, help="Candidates a query that are read.")] = 20,
    first: Annotated[
        str | None, typer.Option(help="Which candidates, where there are several lists.")
    ] = None,
    weight: Annotated[
        list[str] | None,
        typer.Option("--weight", metavar="FILE=N", help="Count a file's queries N times."),
    ] = None,
    l2: Annotated[float, typer.Option(help="Weight of the squared norm.")] = 0.01,
    probe: OwnProbe = None,
    proxy: Annotated[str, typer.Option(help="A zoo name, or a folder.")] = SHARP,
    cache: Annotated[
        Path | None,
        typer.Option(help="Where readings are kept; a refit then takes seconds."),
    ] = None,
) -> None:
    """Fit the probe that ranks documents; a fifth of the queries is held out for its figures."""
    from tamis_lab.datasets.qrels import load_corpus, load_queries
    from tamis_lab.datasets.record_files import describe_file, name_distinctly
    from tamis_lab.options.bars import file_bars
    from tamis_lab.options.shared import default_method, parse_record_file, readings_folder
    from tamis_lab.train.fit import check_l2
    from tamis_lab.train.probe.ranking import QueryLists, RankCaseReader, fit_rank_probe

    check_l2(l2)
    check_probe_target(out)
    query_list, _ = load_queries(queries, first)
    own = parse_record_file(str(queries))
    own, *files = name_distinctly([own, *(parse_record_file(name) for name in data or ())])
    counted = parse_weights(weight or (), [own.name, *(source.name for source in files)])
    documents = load_corpus(
        corpus, [d for query in query_list for d, _ in query.candidates[:depth]]
    )
    method, _ = default_method(probe, proxy)
    lists = QueryLists(own.name, query_list, documents, depth)
    with file_bars() as report:
        reading = RankCaseReader(method, readings_folder(cache), report)
        found = list(reading.read_lists(lists))
        used = [describe_file(own, len(found))]
        for source in files:
            mine = list(reading.read_records(source))
            used.append(describe_file(source, len(mine)))
            found += mine
    fitted = fit_rank_probe(found, method, counted, used, l2)
    written = fitted.save(out)
    console = Console(width=None if Console().is_terminal else 120)
    console.print(_held_out_table(fitted.card.figures["held_out"]))
    Console(stderr=True).print(f"wrote {written}")


def parse_weights(given: Sequence[str], sources: Sequence[str]) -> dict[str, int]:
    """How often each file counts, from `FILE=N`.

    Raises:
        BadInput: N is not a positive number, or there is no such file.
    """
    from tamis.probes.errors import BadInput

    found = {}
    for word in given:
        name, _, number = word.partition("=")
        if not name or not number.isdecimal() or int(number) < 1:
            raise BadInput(f"--weight is {word!r}; give FILE=N, such as queries=4")
        if name not in sources:
            raise BadInput(f"--weight is for {name!r}; the files are {', '.join(sources)}")
        found[name] = int(number)
    return found


def _held_out_table(figures_by_file: dict[str, dict[str, float]]) -> Table:
    """nDCG@10 of the held-out queries, a row per file."""
    ways = list(next(iter(figures_by_file.values())))
    table = Table("source", *ways, title="nDCG@10 within the lists, queries held out")
    for name, figures in figures_by_file.items():
        table.add_row(name, *(f"{figures[way]:g}" for way in ways))
    return table
