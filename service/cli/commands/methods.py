"""`tamis methods`: lists the methods of scoring, and the readings that are compared with them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table

from tamis.compressors.registry import DEFAULT
from tamis.service.cli.display.console import make_console
from tamis.service.cli.display.errors import report_errors
from tamis.service.cli.display.text import dump_json

EPILOG = """
**Examples**

`tamis methods`

`tamis methods --json`

`tamis methods --kind reading` lists published readings of attention, for `tamis bench readings`

`tamis methods --kind pattern` lists patterns of sparse prefill, for `tamis bench prefill`

`tamis compress docs/ -q "..." --method lexical` needs no model but a tokenizer
"""

_COLUMNS = ("name", "needs", "summary", "source")
KINDS = {
    "compression": "score sentences, for `--method` of compress, rerank, batch and ask-context; "
    f"* is the default, {DEFAULT}",
    "reranking": "score whole documents, for `--method` of rerank",
    "ordering": "sort the passages that are kept, for `--order`",
}
"""The kinds of methods, in the order in which they are shown, and what each is for."""
COMPARED = {
    "reading": "ways to read attention, for `tamis bench readings`; no `--method`",
    "pattern": "parts of long prompts that are left out, for `tamis bench prefill`; no `--method`",
}
"""What is compared by benchmarks only, by kind."""


@report_errors()
def methods(
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
    kind: Annotated[
        str | None,
        typer.Option(help=f"Only one kind: {', '.join((*KINDS, *COMPARED))}.", show_default=False),
    ] = None,
) -> None:
    """List the methods by kind, what each needs and where it comes from. No model is loaded."""
    from tamis.probes.errors import BadInput

    if kind not in (None, *KINDS, *COMPARED):
        raise BadInput(f"--kind is {kind!r}; give one of {', '.join((*KINDS, *COMPARED))}")
    rows = _compared_rows(kind) if kind in COMPARED else _rows(kind)
    if as_json:
        typer.echo(dump_json(rows))
        return
    console = make_console()
    for name, what in (KINDS | COMPARED).items():
        if of_kind := [row for row in rows if row["kind"] == name]:
            console.print(f"[bold]{name}[/bold]: {what}")
            console.print(_table(of_kind))
            console.print()


def _table(rows: list[dict[str, str]]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in _COLUMNS:
        table.add_column(column, overflow="fold")
    for row in rows:
        name = f"{row['name']} *" if row["name"] == DEFAULT else row["name"]
        table.add_row(name, *(row[column] for column in _COLUMNS[1:]))
    return table


def _rows(kind: Any = None) -> list[dict[str, str]]:
    from tamis.compressors.registry import method_info, method_names

    found = [(name, asdict(method_info(name))) for name in method_names(kind)]
    rows = [
        {"name": name} | {field: facts[field] for field in ("kind", "needs", "summary", "source")}
        for name, facts in found
    ]
    kinds = list(KINDS)
    return sorted(rows, key=lambda row: (kinds.index(row["kind"]), row["name"] != DEFAULT))


def _compared_rows(kind: str) -> list[dict[str, str]]:
    from tamis.probes.prefill.registry import PATTERNS
    from tamis.probes.window_attention.registry import READINGS

    infos: dict[str, Any] = (
        {name: READINGS.info(name) for name in READINGS.names()}
        if kind == "reading"
        else {name: PATTERNS.info(name) for name in PATTERNS.names()}
    )
    same = {"kind": kind, "needs": "proxy"}
    return [{"name": name, **same, **asdict(info)} for name, info in infos.items()]
