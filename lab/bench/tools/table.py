"""Tool outputs in the terminal: a table a ratio, and the gold kept by kind of output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

COLUMNS = (
    "gold kept",
    "all",
    "errors lost",
    "rules broken",
    "empty",
    "over",
    "tokens",
    "ms",
    "p95",
)


def tool_table(ratio: str, figures: Mapping[str, Any]) -> Table:
    """Compressors at one ratio, one row each; the reference's lead stands below the gold kept."""
    title = f"{float(ratio):.0%} of the tokens, {figures['outputs']} outputs"
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("compressor", no_wrap=True)
    for column in COLUMNS:
        table.add_column(column, justify="right")
    for name, of in figures["compressors"].items():
        style = "bold" if name == figures["reference"] else ""
        table.add_row(Text(name, style), *_cells(of))
    return table


def _cells(of: Mapping[str, Any]) -> list[Text]:
    broken = [f"{count} {rule}" for rule, count in of["violations"].items() if count]
    failed = f"\n{of['failed']} failed" if of["failed"] else ""
    return [
        _gold_cell(of),
        Text(f"{of['gold_in_any_words']:.2f}"),
        Text(f"{of['all_gold_kept']:.2f}"),
        _count(of["errors_lost"], f" of {of['errors']}"),
        Text("\n".join(broken) or "0", "red" if broken else "green"),
        _count(of["empty"], failed),
        _count(of["over_limit"]),
        Text(f"{of['tokens_kept']:.3f}"),
        Text(f"{of['ms_p50']:.0f}"),
        Text(f"{of['ms_p95']:.0f}"),
    ]


def _count(number: int, rest: str = "") -> Text:
    return Text(f"{number}{rest}", "red" if number else "green")


def _gold_cell(of: Mapping[str, Any]) -> Text:
    kept = of["gold_kept"]
    text = Text(f"{kept['value']:.3f} [{kept['low']:.2f}, {kept['high']:.2f}]")
    if ahead := of.get("reference_ahead"):
        style = "green" if ahead["low"] > 0 else "red" if ahead["high"] < 0 else "dim"
        text.append(f"\n{ahead['value']:+.2f} [{ahead['low']:.2f}, {ahead['high']:.2f}]", style)
    return text


def kind_table(ratio: str, figures: Mapping[str, Any]) -> Table:
    """Gold kept by kind of output; the best of each row is green, lost errors are red."""
    names = list(figures["compressors"])
    table = Table(title=f"Gold kept by kind at {float(ratio):.0%}", title_justify="left")
    table.add_column("kind (outputs)", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right")
    for kind, outputs in figures["kinds"].items():
        cells = [figures["compressors"][name]["kinds"][kind] for name in names]
        best = max(cell["gold_kept"]["value"] for cell in cells)
        table.add_row(f"{kind} ({outputs})", *(_kind_cell(cell, best) for cell in cells))
    return table


def _kind_cell(of: Mapping[str, Any], best: float) -> Text:
    value = of["gold_kept"]["value"]
    text = Text(f"{value:.2f}", "green" if value == best else "")
    if of["errors_lost"]:
        text.append(f" -{of['errors_lost']}", "red")
    return text


def tool_footnote(figures: Mapping[str, Any]) -> Text:
    """An explanation of the figures."""
    first = next(iter(figures.values()))["reference"]
    return Text(
        f"Share of labelled lines kept [95 % interval]; below, how far {first} is ahead. "
        "words: the same with lines in another form that have all their words. all: outputs with "
        "all of their gold. over: outputs above the limit. tokens: share kept. By kind, in red: "
        "error lines lost.\n"
    )
