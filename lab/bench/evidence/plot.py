"""A plot of evidence kept against tokens kept: one panel per set, one line per method."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tamis.probes.errors import BadInput, MissingExtra

# Okabe & Ito's palette, which colour-blind readers can distinguish; black is the first method's
_COLOURS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = "osD^vPX"
_PANEL_INCHES = (4.4, 3.8)


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


def save_figure(figure: Any, path: Path) -> None:
    """Writes a figure to an image.

    Raises:
        BadInput: the file cannot be written.
    """
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:  # ValueError: an ending that is not an image format
        raise BadInput(f"{path} cannot be written ({error}); name another file") from error


def draw_evidence(sets: Mapping[str, Any], path: Path) -> None:
    """Writes the plot.

    Args:
        sets: figures by set, as `evidence_figures` returns them.
        path: a .png file in an existing folder.

    Raises:
        MissingExtra: matplotlib is not installed. BadInput: the file cannot be written.
    """
    columns = min(2, len(sets))
    rows = math.ceil(len(sets) / columns)
    width, height = _PANEL_INCHES
    figure = figure_class()(
        figsize=(width * columns, height * rows + 0.6), dpi=150, layout="constrained"
    )
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for panel, (name, figures) in zip(axes, sets.items(), strict=False):
        _draw_panel(panel, name, figures)
    for empty in axes[len(sets) :]:
        empty.set_axis_off()
    lines = axes[0].get_lines()
    figure.legend(
        lines,
        [line.get_label() for line in lines],
        loc="outside lower center",
        ncols=min(4, len(lines)),
        frameon=False,
    )
    try:
        figure.savefig(path)
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error}") from error


def _draw_panel(axes: Any, name: str, figures: Mapping[str, Any]) -> None:
    """One set: share of tokens kept (logarithmic) against share of gold sentences kept."""
    shares: set[float] = set()
    for i, (method, of) in enumerate(figures["methods"].items()):
        cells = sorted(of["budgets"].values(), key=lambda cell: cell["mean_share"])
        at = [cell["mean_share"] for cell in cells]
        shares |= {round(share, 2) for share in at}
        axes.plot(
            at,
            [cell["gold_kept"] for cell in cells],
            color=_COLOURS[i % len(_COLOURS)],
            marker=_MARKERS[i % len(_MARKERS)],
            markersize=4.5,
            linewidth=2.4 if method == figures["reference"] else 1.3,
            zorder=3 if method == figures["reference"] else 2,
            label=method,
        )
    axes.set_xscale("log")
    axes.set_title(f"{name} ({figures['records']} questions)", fontsize=11)
    axes.set_xlabel("share of tokens kept")
    axes.set_ylabel("share of gold sentences kept")
    axes.set_ylim(0, 1.02)
    _percent_ticks(axes, shares)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _percent_ticks(axes: Any, shares: set[float]) -> None:
    """Sets ticks at round shares within the data: a log axis has ticks at powers of ten only."""
    low, high = min(shares), max(shares)
    ticks = [
        t for t in (0.01, 0.02, 0.05, 0.1, 0.2, 0.33, 0.5, 1.0) if low * 0.8 <= t <= high * 1.25
    ]
    axes.minorticks_off()
    axes.set_xticks(ticks, [f"{t:.0%}" for t in ticks])
