"""`tamis lab kinds`: what benchmarks and fits compare, beside the methods of `tamis methods`.

`python -m tamis_lab.listing` writes lab/docs/methods.md: every paper with its file, its departures,
its figure and ours, from the registries, the docstrings and lab/docs/papers.toml.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
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
DOCS = Path(__file__).parent / "docs"
PAGE = DOCS / "methods.md"
_COMMANDS = {
    "compression": "`tamis lab bench evidence --methods {}`",
    "reranking": "`tamis lab bench rerank --method {}`",
    "ordering": "`tamis compress --order {}`",
    "reading": "`tamis lab bench readings --readings {}`",
    "pattern": "`tamis lab bench prefill --patterns {}`",
    "selector": "`tamis lab bench selectors --selectors {}`",
    "eviction": "`tamis lab bench thin --evictions {}`",
    "finder": "`tamis lab heads find --by {}`",
}
_TITLES = {
    "compression": "Methods that score sentences",
    "reranking": "Methods that rank documents",
    "ordering": "Methods that order passages",
    "reading": "Readings of attention: gold kept at 20 % of the tokens, five sets",
    "pattern": "Patterns of prefill",
    "selector": "Selectors of keys: keys read for a recall of .95, of 32,000",
    "eviction": "Evictions: rank correlation of units where a quarter is kept",
    "finder": "Ways to find heads",
}


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


def methods_page() -> str:
    """The page of all methods and of what benchmarks compare, as Markdown."""
    figures = tomllib.loads((DOCS / "papers.toml").read_text("utf-8"))
    parts = [figures.pop("introduction")]
    for kind, title in _TITLES.items():
        parts += [f"\n## {title}\n", "| | paper | what it does | departures | paper says | here |"]
        parts.append("|---|---|---|---|---|---|")
        known = figures.pop(kind)
        for row in _entries(kind):
            found = known.pop(row["name"], {})
            log = found.get("log")
            ours = found.get("ours", "–")
            source, file = row["source"], _file_of(row["name"], kind)
            cells = (
                f"[`{row['name']}`](../../{file})",
                re.sub(r"(?:arXiv )?(\d{4}\.\d{5})", r"[\1](https://arxiv.org/abs/\1)", source),
                f"{row['summary']}; {_COMMANDS[kind].format(row['name'])}",
                _departures(file),
                found.get("paper", "–"),
                f"[{ours}]({log})" if log else ours,
            )
            parts.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
        if known:
            raise ValueError(f"papers.toml has figures of no {kind}: {sorted(known)}")
    return "\n".join(parts) + "\n"


def _entries(kind: str) -> Iterator[dict[str, Any]]:
    """The entries of a kind by name: those of `rows_of`, or the methods of tamis and the lab."""
    if kind in KINDS:
        yield from rows_of(kind)
        return
    from tamis.compressors.registry import METHODS, method_info

    for name in METHODS.names():
        if METHODS.package_of(name) in ("tamis", "tamis-lab") and method_info(name).kind == kind:
            yield {"name": name, **asdict(method_info(name))}


def _file_of(name: str, kind: str) -> str:
    """The path of an entry's file in the repository."""
    folder = {"finder": "train/finders"}.get(kind, f"methods/{kind}s")
    if kind in KINDS:
        return f"lab/{folder}/{name}.py"
    is_own = find_spec(f"tamis.compressors.methods.{name}") is not None
    return f"compressors/methods/{name}.py" if is_own else f"lab/methods/{name}.py"


def _departures(file: str) -> str:
    """What the docstring of a file says after "Departures:", in one line; a dash for nothing."""
    text = ast.get_docstring(ast.parse((DOCS.parents[1] / file).read_text("utf-8"))) or ""
    found = re.findall(r"Departures?\b[^:]*: (.*?)(?:\n\n|$)", text, re.DOTALL)
    text = " ".join(" ".join(found).split())
    return re.sub(r" \(lab.log/[^)\s]*\)|:? lab.log/[^)\s]*[^)\s.,]", "", text) or "–"


if __name__ == "__main__":
    PAGE.write_text(methods_page(), "utf-8")
