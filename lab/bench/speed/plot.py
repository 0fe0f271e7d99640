"""A plot of times and of shares of the machine's limit, one line per path."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tamis_lab.bench.evidence.plot import figure_class, save_figure

# Okabe & Ito's palette
_COLOURS = {
    "cold": "#000000",
    "fill": "#999999",
    "warm": "#D55E00",
    "batch": "#0072B2",
    "minilm": "#009E73",
}


def draw_speed(cells: Mapping[str, Mapping[str, Mapping[str, Any]]], path: Path) -> None:
    """Writes the plot: time of a question and share of the limit against the context's tokens.

    Args:
        cells: figures by path and size, as `measure_paths` yields them.
        path: an image file in an existing folder.

    Raises:
        MissingExtra: matplotlib is not installed. BadInput: the file cannot be written.
    """
    figure = figure_class()(figsize=(9, 3.8), dpi=150, layout="constrained")
    times, shares = figure.subplots(1, 2)
    for name, sizes in cells.items():
        x = [int(size) for size in sizes]
        style = {"color": _COLOURS.get(name, "#CC79A7"), "marker": "o", "label": name}
        times.plot(x, [cell["ms_p50"] for cell in sizes.values()], **style)
        p95 = [cell["ms_p95"] for cell in sizes.values()]
        times.scatter(x, p95, color=style["color"], marker="_", s=60)
        if all("share_of_limit" in cell for cell in sizes.values()):
            shares.plot(x, [cell["share_of_limit"] for cell in sizes.values()], **style)
    times.set(xscale="log", yscale="log", xlabel="tokens of the context", ylabel="ms a question")
    times.set_title("p50, and p95 as a dash", fontsize=10)
    shares.set(xscale="log", xlabel="tokens of the context", ylim=(0, 1))
    shares.set_title("share of the machine's matrix products", fontsize=10)
    for axes in (times, shares):
        axes.grid(alpha=0.3)
    times.legend(frameon=False)
    save_figure(figure, path)
