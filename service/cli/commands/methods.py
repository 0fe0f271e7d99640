"""`tamis methods`: lists the methods of scoring, and the readings that are compared with them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table

from tamis.service.cli.display.console import make_console
from tamis.service.cli.display.errors import report_errors
from tamis.service.cli.display.text import dump_json

KINDS = ("compression", "reranking", "ordering", "reading")
EPILOG = """
**Examples**

`tamis methods`

`tamis methods --json`

`tamis methods --kind reading` lists published readings of attention, for `tamis bench readings`

`tamis compress docs/ -q "..." --method lexical` needs no model but a tokenizer
"""


@report_errors()
def methods(
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
    kind: Annotated[
        str | None, typer.Option(help=f"Only one kind: {', '.join(KINDS)}.", show_default=False)
    ] = None,
) -> None:
    """List the methods, what each needs and where it comes from. No model is loaded."""
    from tamis.probes.errors import BadInput

    if kind not in (None, *KINDS):
        raise BadInput(f"--kind is {kind!r}; give one of {', '.join(KINDS)}")
    rows = _reading_rows() if kind == "reading" else _rows(kind)
    if as_json:
        typer.echo(dump_json(rows))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in rows[0]:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row.values())
    make_console().print(table)


def _rows(kind: Any = None) -> list[dict[str, str]]:
    from tamis.compressors.registry import method_info, method_names

    found = [(name, asdict(method_info(name))) for name in method_names(kind)]
    return [
        {"name": name} | {field: facts[field] for field in ("kind", "needs", "summary", "source")}
        for name, facts in found
    ]


def _reading_rows() -> list[dict[str, str]]:
    from tamis.probes.window_attention.registry import reading_info, reading_names

    same = {"kind": "reading", "needs": "proxy"}
    return [{"name": name, **same, **asdict(reading_info(name))} for name in reading_names()]
