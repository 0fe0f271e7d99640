"""`tamis methods`: the methods that are installed, of tamis and others, and the options of one."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import typer
from rich.table import Table

from tamis.compressors.options import Option
from tamis.compressors.registry import DEFAULT
from tamis.service.cli.display.output import dump_json, make_console
from tamis.service.cli.options.typer_options import takes_options

EPILOG = """
**Examples**

`tamis methods`

`tamis methods --all` lists those of papers, too, which are there for comparison

`tamis methods --json`

`tamis methods fusion` shows the options of one

`tamis methods --kind ordering` lists what `--order` of compress may be, besides `score`

`tamis compress docs/ -q "..." --method lexical` needs no model but a tokenizer
"""

_COLUMNS = ("name", "needs", "summary", "source", "package")
KINDS = {
    "compression": "score sentences, for `--method` of compress, rerank, batch and ask-context; "
    f"* is the default, {DEFAULT}",
    "reranking": "score whole documents, for `--method` of rerank",
    "ordering": "sort the passages that are kept, for `--order`",
}
"""The kinds of methods, in the order in which they are shown, and what each is for."""


@takes_options(
    name=Option("A method, to see its options.", is_argument=True),
    as_json=Option("Print a JSON list.", flag="--json"),
    kind=Option(f"Only one kind: {', '.join(KINDS)}."),
    research=Option("With the methods of papers, which are there for comparison.", flag="--all"),
)
def methods(
    name: str | None = None, as_json: bool = False, kind: str | None = None, research: bool = False
) -> None:
    """List the methods by kind: what each needs, its source and its package. No model is loaded.

    With a name, the method's options: what each takes, its default, the paper's value where that is
    another, and what it does. `--option NAME=VALUE` gives one.
    """
    from tamis.probes.errors import BadInput

    if kind not in (None, *KINDS):
        raise BadInput(f"--kind is {kind!r}; give one of {', '.join(KINDS)}")
    if name is not None:
        _show_one(name, as_json)
        return
    rows = _rows(kind, research)
    if as_json:
        typer.echo(dump_json(rows))
        return
    console = make_console()
    for name, what in KINDS.items():
        if of_kind := [row for row in rows if row["kind"] == name]:
            console.print(f"[bold]{name}[/bold]: {what}")
            console.print(_table(of_kind))
            console.print()


def _show_one(name: str, as_json: bool) -> None:
    """A method and its options, each with its help."""
    from tamis.compressors.options import options_of
    from tamis.compressors.registry import method_class

    found = [
        {
            "option": one.name,
            "takes": one.describe_values(),
            "default": one.default,
            "paper": one.paper,
            "help": one.help,
        }
        for one in options_of(method_class(name))
    ]
    row = next(row for row in _rows() if row["name"] == name)
    if as_json:
        typer.echo(dump_json({**row, "options": found}))
        return
    console = make_console()
    console.print(f"[bold]{name}[/bold] ({row['kind']}): {row['summary']}")
    console.print(f"needs {row['needs']}; {row['source']}; of the package {row['package']}")
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("option", "takes", "default", "paper", "help"):
        table.add_column(column, overflow="fold")
    for one in found:
        paper = one["paper"] or ""
        table.add_row(one["option"], one["takes"], str(one["default"]), paper, one["help"])
    console.print(table if found else "It has no options.", markup=False)


def _table(rows: list[dict[str, str]]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in _COLUMNS:
        table.add_column(column, overflow="fold")
    for row in rows:
        name = f"{row['name']} *" if row["name"] == DEFAULT else row["name"]
        table.add_row(name, *(row[column] for column in _COLUMNS[1:]))
    return table


def _rows(kind: Any = None, research: bool = True) -> list[dict[str, str]]:
    from tamis.compressors.registry import METHODS, method_info, method_names

    found = [(name, asdict(method_info(name))) for name in method_names(kind, research)]
    rows = [
        {"name": name}
        | {field: facts[field] for field in ("kind", "needs", "summary", "source")}
        | {"package": METHODS.package_of(name)}
        for name, facts in found
    ]
    kinds = list(KINDS)
    return sorted(rows, key=lambda row: (kinds.index(row["kind"]), row["name"] != DEFAULT))
