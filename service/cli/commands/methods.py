"""`tamis methods`: lists the methods of scoring."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

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


@report_errors()
def methods(
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """List the methods by kind, what each needs and where it comes from. No model is loaded."""
    rows = _rows()
    if as_json:
        typer.echo(dump_json(rows))
        return
    console = make_console()
    for kind, what in KINDS.items():
        console.print(f"[bold]{kind}[/bold]: {what}")
        console.print(_table([row for row in rows if row["kind"] == kind]))
        console.print()


def _table(rows: list[dict[str, str]]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in _COLUMNS:
        table.add_column(column, overflow="fold")
    for row in rows:
        name = f"{row['name']} *" if row["name"] == DEFAULT else row["name"]
        table.add_row(name, *(row[column] for column in _COLUMNS[1:]))
    return table


def _rows() -> list[dict[str, str]]:
    from tamis.compressors.registry import method_info, method_names

    found = [(name, asdict(method_info(name))) for name in method_names(None)]
    rows = [
        {"name": name} | {field: facts[field] for field in ("kind", "needs", "summary", "source")}
        for name, facts in found
    ]
    kinds = list(KINDS)
    return sorted(rows, key=lambda row: (kinds.index(row["kind"]), row["name"] != DEFAULT))
