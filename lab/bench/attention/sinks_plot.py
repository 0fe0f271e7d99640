"""A plot of evidence kept by treatment of sinks: one panel per set, one colour per mix of heads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tamis_lab.bench.attention.sinks import MIXES, TREATMENTS
from tamis_lab.bench.evidence.plot import figure_class, save_figure

_COLOURS = ("#56B4E9", "#E69F00", "#000000")
_BAR_WIDTH = 0.27


def draw_sinks(sets: Mapping[str, Any], budget: str, path: Path) -> None:
    """Writes the plot.

    Args:
        sets: figures by set, as `compare_treatments` returns them. budget: one of theirs.

    Raises:
        MissingExtra: matplotlib is not installed. BadInput: the file cannot be written.
    """
    figure = figure_class()(figsize=(5.6 * len(sets), 4), dpi=150, layout="constrained")
    panels = figure.subplots(1, len(sets), squeeze=False)[0]
    for axes, (name, figures) in zip(panels, sets.items(), strict=True):
        _draw_panel(axes, name, figures, budget)
    bars, names = panels[0].get_legend_handles_labels()
    figure.legend(bars, names, loc="outside lower center", ncols=len(MIXES), frameon=False)
    save_figure(figure, path)


def _draw_panel(axes: Any, name: str, figures: Mapping[str, Any], budget: str) -> None:
    for i, mix in enumerate(MIXES):
        cells = (
            figures["methods"][f"{treatment}, {mix}"]["budgets"][budget] for treatment in TREATMENTS
        )
        kept = [cell["gold_kept"] for cell in cells]
        positions = [position + (i - 1) * _BAR_WIDTH for position in range(len(TREATMENTS))]
        bars = axes.bar(positions, kept, _BAR_WIDTH, color=_COLOURS[i], label=mix)
        axes.bar_label(bars, [f"{100 * share:.0f}" for share in kept], fontsize=7)
    labels = [treatment.replace(" ", "\n", 1) for treatment in TREATMENTS]
    axes.set_xticks(range(len(TREATMENTS)), labels, fontsize=8)
    axes.set(ylim=(0, 1.05), ylabel="share of gold sentences kept")
    share = f"{float(budget):.0%}" if float(budget) <= 1 else f"{budget}"
    axes.set_title(f"{name} ({figures['records']} questions), {share} of the tokens", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
