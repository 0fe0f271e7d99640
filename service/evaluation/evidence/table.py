"""Evidence kept, as a table in a terminal: a row a method, a column a budget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text


def table(name: str, found: Mapping[str, Any]) -> Table:
    """One set: gold kept (records with all of it); below, how far the reference is ahead.

    Args:
        name: of the set.
        found: its figures, as `evidence.figures` gives them.
    """
    methods = found["methods"]
    drawn = Table(title=_title(name, found), title_justify="left", title_style="bold")
    drawn.add_column("method", no_wrap=True)
    for budget in next(iter(methods.values()))["budgets"]:
        drawn.add_column(_heading(budget), justify="right", no_wrap=True)
    drawn.add_column("ms", justify="right", no_wrap=True)
    for method, of in methods.items():
        style = "bold" if method == found["reference"] else ""
        ms = f"{of['median_ms']:.1f}{'*' if of['cached_cases'] else ''}"
        drawn.add_row(Text(method, style), *map(_cell, of["budgets"].values()), ms)
    return drawn


def footnote(sets: Mapping[str, Any]) -> Text:
    """What the figures of the tables are."""
    first = next(iter(sets.values()))
    said = "Per cent of gold sentences kept (of questions with all of them). "
    if len(first["methods"]) > 1:
        said += f"Below: how far {first['reference']} is ahead, [95 % interval]. "
    said += "ms: median of scoring a case"
    if any(of["cached_cases"] for found in sets.values() for of in found["methods"].values()):
        said += "; * readings or vectors were kept from before"
    return Text(f"{said}.\n")


def _title(name: str, found: Mapping[str, Any]) -> str:
    beside = f", each among {found['distractors']} others" if found["distractors"] else ""
    return f"{name}: {found['records']} questions, {found['gold_sentences']} gold sentences{beside}"


def _heading(budget: str) -> str:
    return f"{float(budget):.0%}" if float(budget) <= 1 else f"{budget} tokens"


def _cell(cell: Mapping[str, Any]) -> Text:
    shown = Text(f"{100 * cell['gold_kept']:.1f} ({100 * cell['all_gold_kept']:.1f})")
    if ahead := cell.get("reference_gold_ahead"):
        difference, low, high = (100 * ahead[key] for key in ("difference", "low", "high"))
        style = "green" if low > 0 else "red" if high < 0 else "dim"
        shown.append(f"\n{difference:+.1f} [{low:.1f}, {high:.1f}]", style)
    return shown
