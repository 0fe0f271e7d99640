"""A plot of the gold lost, one line per budget: by layers on the left, by heads on the right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tamis_lab.bench.attention.depth_figures import MAX_LOST_SHARE
from tamis_lab.bench.evidence.plot import figure_class, save_figure

_COLOURS = ("#000000", "#D55E00", "#0072B2", "#009E73")


def draw_depth(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Writes the plot of rows as `cut_figures` returns them, the full reading first.

    Raises:
        MissingExtra: matplotlib is not installed. BadInput: the file cannot be written.
    """
    figure = figure_class()(figsize=(10, 4), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _draw_panel(left, [row for row in rows if row["kind"] == "exit"], "layers")
    _draw_panel(right, [row for row in rows if row["kind"] == "heads"], "heads")
    left.set_ylabel(f"gold lost against {rows[0]['cut']} (points)")
    left.legend(frameon=False)
    save_figure(figure, path)


def _draw_panel(axes: Any, rows: Sequence[Mapping[str, Any]], across: str) -> None:
    """Loss with its interval against the number of layers or heads that are read."""
    sizes = [row[across] for row in rows]
    for number, budget in enumerate(rows[0]["budgets"]):
        cells = [row["budgets"][budget] for row in rows]
        lost = [100 * cell["lost"] for cell in cells]
        errors = [
            [100 * (cell["lost"] - cell["low"]) for cell in cells],
            [100 * (cell["high"] - cell["lost"]) for cell in cells],
        ]
        label = f"{float(budget):.0%} of the tokens" if float(budget) <= 1 else f"{budget} tokens"
        colour = _COLOURS[number % len(_COLOURS)]
        axes.errorbar(sizes, lost, errors, fmt="o-", color=colour, capsize=3, label=label)
    axes.axhline(100 * MAX_LOST_SHARE, color="grey", linewidth=0.8, linestyle="--")
    axes.set(xlabel=f"{across} read", xticks=sizes)
    axes.spines[["top", "right"]].set_visible(False)
