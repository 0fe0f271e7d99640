"""The figures of `tamis bench languages`, as a table, as Markdown, and a line a language."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from tamis.service.api.languages import BUDGET, load_measurements


def figures_table(report: Mapping[str, Any]) -> Table:
    """Figures of `tamis bench languages` as a table: a row a language and budget."""
    methods = list(next(iter(_cells(report)))[2]["methods"])
    drawn = Table("language", "budget", *methods, title=_title(report), title_justify="left")
    for code, budget, at in _cells(report):
        drawn.add_row(code, f"{float(budget):.0%}", *(_cell(at, name) for name in methods))
    return drawn


def figures_markdown(report: Mapping[str, Any]) -> str:
    """The same figures as a table of Markdown, as docs/languages.md has it."""
    methods = list(next(iter(_cells(report)))[2]["methods"])
    rows = [["language", "budget", *methods], ["---"] * (2 + len(methods))]
    for code, budget, at in _cells(report):
        cells = (_cell(at, name).plain.replace("\n", "<br>") for name in methods)
        rows.append([code, f"{float(budget):.0%}", *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def proxy_lines(proxy: str) -> list[str]:
    """What is known of a proxy, a line a language: kept, and how far ahead of the best free."""
    lines = []
    for code, budget, at in _cells(load_measurements()):
        if budget == BUDGET and (of := at["methods"].get(proxy)):
            ahead = " [{1:+.1f}, {2:+.1f}]".format(*(100 * x for x in of["ahead_of_free"]))
            lines.append(
                f"{code} {of['gold_kept']:.1%} at {float(budget):.0%}, "
                f"{100 * of['ahead_of_free'][0]:+.1f}{ahead} against {at['best_free']}"
            )
    return lines


def _cells(report: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for code, found in report["languages"].items():
        for budget, at in found["budgets"].items():
            yield code, budget, at


def _cell(at: Mapping[str, Any], name: str) -> Text:
    of = at["methods"][name]
    drawn = Text(f"{100 * of['gold_kept']:.1f}", "bold" if name == at["best_free"] else "")
    if ahead := of.get("ahead_of_free"):
        difference, low, high = (100 * value for value in ahead)
        style = "green" if low > 0 else "red" if high < 0 else "dim"
        drawn.append(f"\n{difference:+.1f} [{low:.1f}, {high:.1f}]", style)
    return drawn


def _title(report: Mapping[str, Any]) -> str:
    records = {of["records"] for of in report["languages"].values()}
    return (
        f"{report['set']}, {'/'.join(map(str, sorted(records)))} questions a language: per cent of "
        f"gold sentences kept, in tokens of {report['tokens_of']}; below, ahead of the best free "
        "method (bold) with its 95 % interval"
    )
