"""The table of readings in the terminal: a row a reading, and what each column keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from tamis_lab.bench.readings.figures import COLUMNS


def reading_table(name: str, of: Mapping[str, Any], share: str) -> Table:
    """One set at one share of the tokens; the interval is of what raw keeps less, in points."""
    table = Table(
        title=f"{name}: {of['questions']} questions; per cent of gold sentences kept at "
        f"{float(share):.0%} of the tokens, in brackets the 95 % interval of the lead over raw",
        title_justify="left",
    )
    table.add_column("reading", no_wrap=True)
    for column in COLUMNS:
        table.add_column(column, justify="right", no_wrap=True)
    for column in ("auc", "mrr"):
        table.add_column(column, justify="right")
    for reading, columns in of["rows"].items():
        cells = [_cell(columns.get(column), share) for column in COLUMNS]
        last = columns.get("added") or columns["heads"]
        table.add_row(reading, *cells, f"{last['auc']:.3f}", f"{last['mrr']:.3f}")
    return table


def _cell(figures: Mapping[str, Any] | None, share: str) -> str:
    if figures is None:
        return ""
    _, low, high = figures["ahead_of_raw"][share]
    lead = f" [{100 * low:+.1f}, {100 * high:+.1f}]" if low or high else ""
    return f"{100 * figures['kept'][share]:.1f}{lead}"


def other_table(answerable: Mapping[str, Any], costs: Mapping[str, float]) -> Table:
    """Answerability by column, and what each reading costs."""
    table = Table(title="AUROC of answerability; processor ms per 1,000 tokens, the pass included")
    table.add_column("reading", no_wrap=True)
    for column in (*COLUMNS, "ms"):
        table.add_column(column, justify="right")
    for reading in answerable or costs:
        columns = answerable.get(reading, {})
        cells = [f"{columns[c]:.3f}" if c in columns else "" for c in COLUMNS]
        table.add_row(reading, *cells, f"{costs[reading]:.0f}" if reading in costs else "")
    return table
