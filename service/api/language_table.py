"""The figures of `tamis lab bench languages` as a table, and one line per language."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from tamis.service.api.languages import BUDGET, load_measurements


def figures_table(report: Mapping[str, Any]) -> Table:
    """Figures of `tamis lab bench languages` as a table, one row per language and budget."""
    methods = list(next(iter(_cells(report)))[2]["methods"])
    table = Table("language", "budget", *methods, title=_title(report), title_justify="left")
    for code, budget, figures in _cells(report):
        table.add_row(code, f"{float(budget):.0%}", *(_cell(figures, name) for name in methods))
    return table


def proxy_lines(proxy: str) -> list[str]:
    """A proxy's figures, one line per language: evidence kept, lead over the best free method."""
    lines = []
    for code, budget, figures in _cells(load_measurements()):
        if budget == BUDGET and (own := figures["methods"].get(proxy)):
            ahead = " [{1:+.1f}, {2:+.1f}]".format(*(100 * x for x in own["ahead_of_free"]))
            lines.append(
                f"{code} {own['gold_kept']:.1%} at {float(budget):.0%}, "
                f"{100 * own['ahead_of_free'][0]:+.1f}{ahead} against {figures['best_free']}"
            )
    return lines


def _cells(report: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for code, language in report["languages"].items():
        for budget, figures in language["budgets"].items():
            yield code, budget, figures


def _cell(figures: Mapping[str, Any], name: str) -> Text:
    own = figures["methods"][name]
    cell = Text(f"{100 * own['gold_kept']:.1f}", "bold" if name == figures["best_free"] else "")
    if ahead := own.get("ahead_of_free"):
        difference, low, high = (100 * value for value in ahead)
        style = "green" if low > 0 else "red" if high < 0 else "dim"
        cell.append(f"\n{difference:+.1f} [{low:.1f}, {high:.1f}]", style)
    return cell


def _title(report: Mapping[str, Any]) -> str:
    records = {of["records"] for of in report["languages"].values()}
    return (
        f"{report['set']}, {'/'.join(map(str, sorted(records)))} questions a language: per cent of "
        f"gold sentences kept, in tokens of {report['tokens_of']}; below, ahead of the best free "
        "method (bold) with its 95 % interval"
    )
