"""`tamis methods`: lists the methods of scoring."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from tamis.service.cli.display.console import make_console
from tamis.service.cli.display.errors import report_errors
from tamis.service.cli.display.text import dump_json

EPILOG = """
**Examples**

`tamis methods`

`tamis methods --json`

`tamis compress docs/ -q "..." --method lexical` needs no model but a tokenizer
"""


@report_errors()
def methods(
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """List the methods, what each needs and where it comes from. No model is loaded."""
    rows = _rows()
    if as_json:
        typer.echo(dump_json(rows))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in rows[0]:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row.values())
    make_console().print(table)


def _rows() -> list[dict[str, str]]:
    from tamis.compressors.registry import method_info, method_names

    found = [(name, asdict(method_info(name))) for name in method_names(None)]
    return [
        {"name": name} | {field: facts[field] for field in ("kind", "needs", "summary", "source")}
        for name, facts in found
    ]
