"""A plot of tool outputs: what each compressor keeps of each kind of output."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tamis.probes.errors import BadInput
from tamis_lab.bench.evidence.plot import figure_class

# Okabe & Ito's palette; the first is the reference
_COLOURS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = "osD^vPX"
_ROW_INCHES = 0.36


def draw_tools(figures: Mapping[str, Any], path: Path) -> None:
    """Writes the plot: a panel a ratio, a row a kind of output, a mark a compressor.

    Args:
        figures: as `tool_figures` returns them.

    Raises:
        MissingExtra: matplotlib is not installed. BadInput: the file cannot be written.
    """
    rows = max(len(of["kinds"]) for of in figures.values()) + 1
    figure = figure_class()(
        figsize=(4.6 * len(figures), 1.6 + _ROW_INCHES * rows), dpi=150, layout="constrained"
    )
    axes = figure.subplots(1, len(figures), squeeze=False, sharey=True).flatten()
    for panel, (ratio, of) in zip(axes, figures.items(), strict=True):
        _draw_panel(panel, ratio, of)
    lines, labels = axes[0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside lower center", ncols=4, frameon=False)
    try:
        figure.savefig(path)
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error}") from error


def _draw_panel(panel: Any, ratio: str, of: Mapping[str, Any]) -> None:
    kinds = list(of["kinds"])
    for i, (name, found) in enumerate(of["compressors"].items()):
        kept = [found["gold_kept"]["value"]]
        kept += [found["kinds"][kind]["gold_kept"]["value"] for kind in kinds]
        colour = _COLOURS[i % len(_COLOURS)]
        panel.plot(
            kept,
            range(len(kept)),
            _MARKERS[i % len(_MARKERS)],
            color=colour,
            markerfacecolor=colour if name == of["reference"] else "none",
            label=name,
        )
    panel.set_yticks(range(len(kinds) + 1), ["all", *kinds])
    panel.set_xlim(-0.02, 1.02)
    panel.set_xlabel(f"gold lines kept at {float(ratio):.0%} of the tokens")
    panel.grid(axis="y", alpha=0.3)
    panel.invert_yaxis()
