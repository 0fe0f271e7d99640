"""A plot of readings: a panel a set, a row a reading, a mark a column."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tamis_lab.bench.evidence.plot import figure_class, save_figure
from tamis_lab.bench.readings.figures import COLUMNS

_COLOURS = dict(zip(COLUMNS, ("#56B4E9", "#0072B2", "#E69F00", "#000000"), strict=True))
_ROW_INCHES = 0.28
_FOLDERS = re.compile(r"=[^=,]*/")
"""Before the name of an option's file."""


def draw_readings(sets: Mapping[str, Any], share: str, path: Path) -> None:
    """Writes the plot.

    Args:
        sets: figures by set, as `set_figures` returns them. share: one of theirs.

    Raises:
        MissingExtra: matplotlib is not installed. BadInput: the file cannot be written.
    """
    rows = max(len(of["rows"]) for of in sets.values())
    size = (2 + 3.2 * len(sets), 1.4 + _ROW_INCHES * rows)
    figure = figure_class()(figsize=size, dpi=150, layout="constrained")
    panels = figure.subplots(1, len(sets), squeeze=False, sharey=True)[0]
    for axes, (name, of) in zip(panels, sets.items(), strict=True):
        _draw_panel(axes, name, of, share)
    marks, names = panels[0].get_legend_handles_labels()
    figure.legend(marks, names, loc="outside lower center", ncols=len(COLUMNS), frameon=False)
    save_figure(figure, path)


def _draw_panel(axes: Any, name: str, of: Mapping[str, Any], share: str) -> None:
    readings = list(of["rows"])
    for column, colour in _COLOURS.items():
        at = [i for i, reading in enumerate(readings) if column in of["rows"][reading]]
        kept = [of["rows"][readings[i]][column]["kept"][share] for i in at]
        axes.plot(kept, at, "o", color=colour, label=column, markersize=4)
    shown = [_FOLDERS.sub("=", reading) for reading in readings]
    axes.set_yticks(range(len(readings)), shown, fontsize=8)
    axes.set_xlim(0, 1)
    axes.set_xlabel(f"gold kept at {float(share):.0%} of the tokens", fontsize=8)
    axes.set_title(f"{name} ({of['questions']} questions)", fontsize=9)
    axes.grid(axis="y", alpha=0.3)
    axes.invert_yaxis()
