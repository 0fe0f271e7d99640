"""`tamis lab kinds`: what benchmarks and fits compare, beside the methods of `tamis methods`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from tamis.service.cli.display.output import dump_json, make_console, report_errors

if TYPE_CHECKING:
    from tamis.probes.folder_registry import FolderRegistry

KINDS = {
    "reading": "ways to read attention, for `tamis lab bench readings`",
    "pattern": "parts of long prompts that are left out, for `tamis lab bench prefill`",
    "selector": "searches of the keys of attention, for `tamis lab bench selectors`",
    "eviction": "what kept passages lose, for `tamis lab bench thin`",
    "finder": "ways to find heads, for `tamis lab heads find`",
}
_COLUMNS = ("name", "summary", "source")


@report_errors()
def kinds(
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
    kind: Annotated[
        str | None, typer.Option(help=f"Only one kind: {', '.join(KINDS)}.", show_default=False)
    ] = None,
) -> None:
    """List what benchmarks and fits compare, by kind. No model is loaded."""
    from tamis.probes.errors import BadInput

    if kind not in (None, *KINDS):
        raise BadInput(f"--kind is {kind!r}; give one of {', '.join(KINDS)}")
    rows = [row for name in KINDS if kind in (None, name) for row in rows_of(name)]
    if as_json:
        typer.echo(dump_json(rows))
        return
    console = make_console()
    for name in dict.fromkeys(row["kind"] for row in rows):
        console.print(f"[bold]{name}[/bold]: {KINDS[name]}")
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for column in _COLUMNS:
            table.add_column(column, overflow="fold")
        for row in rows:
            if row["kind"] == name:
                table.add_row(*(row[column] for column in _COLUMNS))
        console.print(table)
        console.print()


def rows_of(kind: str) -> Iterator[dict[str, Any]]:
    """The entries of a kind, and what each says of itself."""
    registry = _registry_of(kind)
    for name in registry.names():
        yield {"name": name, "kind": kind, **asdict(registry.info(name))}


def _registry_of(kind: str) -> FolderRegistry[Any, Any]:
    from tamis_lab.methods.registry import EVICTIONS, PATTERNS, READINGS, SELECTORS
    from tamis_lab.train.heads.finder import FINDERS

    every = READINGS, PATTERNS, SELECTORS, EVICTIONS, FINDERS
    return next(registry for registry in every if registry.kind == kind)
