"""Evidence kept, as a terminal table: one row per method, one column per budget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text


def evidence_table(name: str, figures: Mapping[str, Any]) -> Table:
    """The table of one set: gold kept (records with all of it), the reference's lead below.

    Args:
        name: of the set.
        figures: of the set, as `evidence_figures` returns them.
    """
    methods = figures["methods"]
    table = Table(title=_title(name, figures), title_justify="left", title_style="bold")
    table.add_column("method", no_wrap=True)
    for budget in next(iter(methods.values()))["budgets"]:
        table.add_column(_heading(budget), justify="right", no_wrap=True)
    table.add_column("ms", justify="right", no_wrap=True)
    for method, of in methods.items():
        style = "bold" if method == figures["reference"] else ""
        ms = f"{of['median_ms']:.1f}{'*' if of['cached_cases'] else ''}"
        table.add_row(Text(method, style), *map(_format_cell, of["budgets"].values()), ms)
    return table


def evidence_footnote(sets: Mapping[str, Any]) -> Text:
    """An explanation of the figures in the tables."""
    first = next(iter(sets.values()))
    text = "Per cent of gold sentences kept (of questions with all of them). "
    if len(first["methods"]) > 1:
        text += f"Below: how far {first['reference']} is ahead, [95 % interval]. "
    text += "ms: median of scoring a case"
    if any(of["cached_cases"] for figures in sets.values() for of in figures["methods"].values()):
        text += "; * readings or vectors were kept from before"
    return Text(f"{text}.\n")


def _title(name: str, figures: Mapping[str, Any]) -> str:
    others = f", each among {figures['distractors']} others" if figures["distractors"] else ""
    gold = f"{figures['gold_sentences']} gold sentences"
    return f"{name}: {figures['records']} questions, {gold}{others}"


def _heading(budget: str) -> str:
    return f"{float(budget):.0%}" if float(budget) <= 1 else f"{budget} tokens"


def _format_cell(cell: Mapping[str, Any]) -> Text:
    text = Text(f"{100 * cell['gold_kept']:.1f} ({100 * cell['all_gold_kept']:.1f})")
    if ahead := cell.get("reference_gold_ahead"):
        difference, low, high = (100 * ahead[key] for key in ("difference", "low", "high"))
        style = "green" if low > 0 else "red" if high < 0 else "dim"
        text.append(f"\n{difference:+.1f} [{low:.1f}, {high:.1f}]", style)
    return text
