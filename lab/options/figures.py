"""Charts as images: lines over an axis, marks beside names, or a grid of cells."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tamis.probes.errors import BadInput, MissingExtra

# Okabe & Ito's palette, which colour-blind readers can distinguish; black is the first one's
COLOURS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = "osD^vPX"
_WIDTH, _HEIGHT, _ROW_HEIGHT = 4.6, 3.8, 0.34


@dataclass(frozen=True, slots=True)
class Chart:
    """One panel of an image.

    Attributes:
        series: `(xs, ys)`, or `(xs, ys, [below, above])` with errors, by label; a line each, or
            with `rows` a mark each.
        rows: names along the y axis, from the top; `ys` are places among them.
        logs: the axes that are logarithmic, such as `x` or `xy`. shares: those from 0 to 1.
        cells: a grid of shares instead of series, by row; `marks` are the texts in them.
        columns: names of the grid's columns.
    """

    title: str
    series: Mapping[str, Sequence[Sequence[Any]]] = field(default_factory=dict)
    x: str = ""
    y: str = ""
    rows: Sequence[str] = ()
    logs: str = ""
    shares: str = ""
    cells: Sequence[Sequence[float]] = ()
    marks: Sequence[Sequence[str]] = ()
    columns: Sequence[str] = ()


def marks_by_row(
    rows: Sequence[str], values: Mapping[str, Sequence[float | None]]
) -> dict[str, tuple[list[float], list[int]]]:
    """The series of a chart with rows: by label the value in each row, None where there is none."""
    return {
        label: (
            [value for value in own if value is not None],
            [i for i, value in enumerate(own) if value is not None],
        )
        for label, own in values.items()
        if len(own) == len(rows)
    }


def figure_class() -> Any:
    """matplotlib's Figure, which needs no display and changes no global state.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("plots need matplotlib: pip install matplotlib") from error
    return Figure


def make_figure(width: float, height: float) -> Any:
    """A figure of that size in inches.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    return figure_class()(figsize=(width, height), dpi=150, layout="constrained")


def save_figure(figure: Any, path: Path) -> None:
    """Writes a figure to an image.

    Raises:
        BadInput: the file cannot be written.
    """
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:  # ValueError: an ending that is not an image format
        raise BadInput(f"{path} cannot be written ({error}); name another file") from error


def draw_charts(charts: Sequence[Chart], path: Path) -> None:
    """Writes charts side by side, at most three in a row, with one legend below.

    Raises:
        MissingExtra: matplotlib is not installed. BadInput: the file cannot be written.
    """
    columns = min(3, len(charts))
    lines = math.ceil(len(charts) / columns)
    height = max(_HEIGHT, 1.2 + _ROW_HEIGHT * max(len(chart.rows) for chart in charts))
    figure = make_figure(_WIDTH * columns, height * lines + 0.6)
    axes = figure.subplots(lines, columns, squeeze=False).flatten()
    handles: dict[str, Any] = {}
    labels = list(dict.fromkeys(label for chart in charts for label in chart.series))
    for panel, chart in zip(axes, charts, strict=False):
        handles |= _draw(panel, chart, labels)
    for empty in axes[len(charts) :]:
        empty.set_axis_off()
    if handles:
        where = {"loc": "outside lower center", "ncols": min(4, len(handles)), "frameon": False}
        figure.legend(handles.values(), handles.keys(), **where)
    save_figure(figure, path)


def _draw(panel: Any, chart: Chart, labels: Sequence[str]) -> dict[str, Any]:
    """Draws one chart; the handle of each label, which looks the same in all charts."""
    handles = {}
    for label, (xs, ys, *errors) in chart.series.items():
        at = labels.index(label)
        look: dict[str, Any] = {
            "color": COLOURS[at % len(COLOURS)],
            "marker": _MARKERS[at % len(_MARKERS)],
        }
        look |= {"linestyle": "none"} if chart.rows else {"linewidth": 1.3 if at else 2.2}
        panel.errorbar(xs, ys, errors[0] if errors else None, markersize=4.5, capsize=3, **look)
        handles[label] = panel.get_lines()[-1] if not errors else panel.containers[-1][0]
    if chart.cells:
        _draw_cells(panel, chart)
    if chart.rows:
        panel.set_yticks(range(len(chart.rows)), chart.rows, fontsize=8)
    if chart.rows and chart.series:
        panel.invert_yaxis()
    for axis in ("x", "y"):
        if axis in chart.logs:
            getattr(panel, f"set_{axis}scale")("log")
        if axis in chart.shares:
            getattr(panel, f"set_{axis}lim")(-0.02, 1.02)
    panel.set_title(chart.title, fontsize=10)
    panel.set(xlabel=chart.x, ylabel=chart.y)
    if chart.series:
        panel.grid(alpha=0.25, linewidth=0.6)
    panel.spines[["top", "right"]].set_visible(False)
    return handles


def _draw_cells(panel: Any, chart: Chart) -> None:
    """A square for each cell, the texts in them, and the names of the columns."""
    panel.imshow(chart.cells, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    for row, marks in enumerate(chart.marks):
        for column, mark in enumerate(marks):
            panel.text(column, row, mark, ha="center", va="center", color="w", fontsize=8)
    if chart.columns:
        panel.set_xticks(range(len(chart.columns)), chart.columns, fontsize=7)
