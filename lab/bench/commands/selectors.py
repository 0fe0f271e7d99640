"""`tamis lab bench selectors`: how many keys a search reads to find what a question attends to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from tamis.compressors.registry import DEFAULT_PROXY
from tamis.probes.errors import BadInput
from tamis.probes.hub.cache_dir import cache_home
from tamis.service.cli.display.console import make_console
from tamis.service.cli.display.errors import report_errors
from tamis_lab.options.bars import record_bars, stage_bars
from tamis_lab.options.bench_options import ProxyName, parse_list, parse_sizes
from tamis_lab.options.output_files import check_images

if TYPE_CHECKING:
    from tamis_lab.bench.selectors.inputs import SelectorInputs

EPILOG = """
**What is measured**

The proxy reads the text in windows; keys of a few of its heads that look back are indexed,
separators left out. Questions that no index has seen are asked, and every selector is given just
the effort that finds 95 % of the 100 keys with the largest logits. The table says how many keys
that took, how long, and how far attention over what was read is from attention over all keys; a
second table compares selectors that may read the same share of keys.

**Examples**

`tamis lab bench selectors` searches the example pages, or ../shared/data where it is

`tamis lab bench selectors --tokens 32000,128000 --json > selectors.json`

`tamis lab bench selectors --text docs/ --train asked.txt --test new.txt --plot recall.png`

`tamis lab bench selectors --selectors attention_graph,hnsw --heads 14.3,18.6`
"""
HEADS = "14.3,15.6,17.3,18.6"
"""Of the default proxy: the best single retrieval heads by gold sentences found."""
SHARED_DATA = Path("../shared/data")
EXAMPLES = Path("examples")

Paths = list[Path] | None


@report_errors()
def selectors(
    tokens: Annotated[
        str, typer.Option(help="Lengths of text, with commas, in tokens of the proxy.")
    ] = "32000",
    names: Annotated[
        str | None,
        typer.Option("--selectors", help="Names, with commas. Default: all.", show_default=False),
    ] = None,
    text: Annotated[
        Paths,
        typer.Option(
            help="Files, folders or labelled .jsonl records to index; repeatable.",
            show_default=False,
        ),
    ] = None,
    train: Annotated[
        Paths,
        typer.Option(
            help="Questions that an index may learn from, one per line or .jsonl; repeatable.",
            show_default=False,
        ),
    ] = None,
    test: Annotated[
        Paths, typer.Option(help="Other questions, to search for.", show_default=False)
    ] = None,
    heads: Annotated[str, typer.Option(help="Layer and query head, with commas.")] = HEADS,
    recall: Annotated[float, typer.Option(help="What every selector has to reach.")] = 0.95,
    queries: Annotated[int, typer.Option(min=1, help="Test queries a head.")] = 400,
    window: Annotated[int, typer.Option(min=1, help="Tokens the proxy reads at once.")] = 2048,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw recall against keys read here (.png, .svg).")
    ] = None,
    proxy: ProxyName = DEFAULT_PROXY,
    cache: Annotated[
        Path | None, typer.Option(help="Where keys are kept. Default: the user's cache.")
    ] = None,
) -> None:
    """Compare ways to find the keys that a question attends to."""
    from tamis.probes.hub.zoo import load_proxy
    from tamis_lab.bench.evidence.tally import environment_facts
    from tamis_lab.bench.selectors.plot import draw_selectors
    from tamis_lab.bench.selectors.run import SelectorRun, SelectorSettings, parse_heads
    from tamis_lab.methods.kv_search import registry as selector_registry

    chosen = parse_list(names, "selectors") if names else selector_registry.SELECTORS.names()
    for name in chosen:
        selector_registry.SELECTORS.check(name)
    read = parse_heads(parse_list(heads, "heads"))
    lengths = tuple(parse_sizes(tokens.replace("_", "")))
    settings = SelectorSettings(lengths, tuple(chosen), read, window, queries, recall)
    material = _find_material(text, train, test)
    check_images(plot)
    model = load_proxy(proxy, layers=1 + max(layer for layer, _ in read))
    folder = cache or cache_home() / "keys"
    with record_bars() as progress:
        report = SelectorRun(model, material, settings, folder).report(stage_bars(progress))
    for note in report["notes"]:
        typer.echo(f"tamis: {note}", err=True)
    report |= {"proxy": proxy, **environment_facts()}
    if as_json:
        typer.echo(json.dumps(report, indent=1))
    else:
        _print_report(report)
    if plot:
        draw_selectors(report["rows"], plot)
        typer.echo(f"wrote {plot}", err=True)


def _find_material(text: Paths, train: Paths, test: Paths) -> SelectorInputs:
    """The files that were named, else labelled records beside the repository, else its examples.

    Raises:
        BadInput: only some of the three were named, or there is nothing to read.
    """
    from tamis_lab.bench.selectors.inputs import SelectorInputs

    given = [bool(text), bool(train), bool(test)]
    if all(given):
        return SelectorInputs(tuple(text or ()), tuple(train or ()), tuple(test or ()))
    if any(given):
        raise BadInput("--text, --train and --test belong together: questions must fit the text")
    if (dev := SHARED_DATA / "dev").is_dir():
        sets = ("hotpotqa", "2wikimultihopqa", "nq_oracle", "squad2")
        return SelectorInputs(
            tuple(dev / f"{name}.jsonl.gz" for name in ("hotpotqa", "covid_qa", "2wikimultihopqa")),
            tuple(SHARED_DATA / "train" / f"{name}.jsonl.gz" for name in sets),
            (dev / "hotpotqa.jsonl.gz",),
        )
    if EXAMPLES.is_dir():
        own = Path(__file__).parents[1] / "selectors/questions"
        return SelectorInputs((EXAMPLES,), (own / "train.txt",), (own / "test.txt",))
    raise BadInput("there is no examples/ here; name --text, --train and --test")


def _print_report(report: dict[str, Any]) -> None:
    table = Table("selector", "tokens", "recall@100", "mass", "mass read", "error")
    for name in ("error read", "unit ρ", "keys read"):
        table.add_column(name)
    table.add_column("ms")
    table.add_column("× exact")
    table.add_column("build s")
    for row in report["rows"]:
        style = "" if row["reached"] else "dim"
        table.add_row(
            row["selector"],
            f"{row['tokens']:,}",
            f"{row['recall_at_100']:.3f}",
            f"{row['attention_mass']:.3f}",
            f"{row['mass_read']:.3f}",
            f"{row['output_error']:.3f}",
            f"{row['error_read']:.3f}",
            "" if row["unit_rho"] is None else f"{row['unit_rho']:.2f}",
            f"{row['share_of_keys_read']:.2%}",
            f"{row['ms']:.2f}",
            f"{row['times_faster_than_exact']:.1f}",
            f"{row['build_s']:.1f}",
            style=style,
        )
    console = make_console()
    console.print(table)
    console.print(_budget_table(report["rows"]))
    console.print(
        f"Means over heads {', '.join(report['heads'])}; {report['test_queries']} queries each, "
        f"effort just enough for a recall of {report['recall']:g} (dim: not reached). "
        f"ms: a query, in batches of 16, {report['threads']} threads. × exact: times faster. "
        "mass: attention over all keys that the 100 found hold; mass read: what all keys of the "
        "blocks read hold. error: of the attention output over the 100, relative to its length; "
        "error read: over what mass read counts. unit ρ: rank correlation of the sentences by "
        "attention over the same, in the passage that a question attends to most."
    )


def _budget_table(rows: list[dict[str, Any]]) -> Table:
    """Output error at fixed shares of keys read."""
    from tamis_lab.bench.selectors.measurement import BUDGETS

    names = ("selector", "tokens", *(f"{budget:.0%}" for budget in BUDGETS))
    table = Table(*names, title="output error (recall@100) by keys read at most")
    for row in rows:
        cells = [
            f"{at['output_error']:.3f} ({at['recall_at_100']:.2f})" if at else "-"
            for at in row["budgets"]
        ]
        table.add_row(row["selector"], f"{row['tokens']:,}", *cells)
    return table
