"""Evidence kept by what is done about sinks: a panel a set, bars by how heads are mixed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tamis.probes.errors import BadInput
from tamis.service.evaluation.attention.sinks import MIXES, WAYS
from tamis.service.evaluation.evidence.plot import figure_class

_COLOURS = ("#56B4E9", "#E69F00", "#000000")
_BAR = 0.27


def draw(sets: Mapping[str, Any], budget: str, path: Path) -> None:
    """Writes the picture.

    Args:
        sets: figures by set, as `sinks.compare` gives them. budget: which of theirs.

    Raises:
        MissingExtra: matplotlib is not installed. BadInput: the file cannot be written.
    """
    figure = figure_class()(figsize=(5.6 * len(sets), 4), dpi=150, layout="constrained")
    panels = figure.subplots(1, len(sets), squeeze=False)[0]
    for axes, (name, found) in zip(panels, sets.items(), strict=True):
        _panel(axes, name, found, budget)
    bars, names = panels[0].get_legend_handles_labels()
    figure.legend(bars, names, loc="outside lower center", ncols=len(MIXES), frameon=False)
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:  # ValueError: an ending that is no image format
        raise BadInput(f"{path} cannot be written ({error}); name another file") from error


def _panel(axes: Any, name: str, found: Mapping[str, Any], budget: str) -> None:
    for i, mix in enumerate(MIXES):
        kept = [found["methods"][f"{way}, {mix}"]["budgets"][budget]["gold_kept"] for way in WAYS]
        places = [place + (i - 1) * _BAR for place in range(len(WAYS))]
        bars = axes.bar(places, kept, _BAR, color=_COLOURS[i], label=mix)
        axes.bar_label(bars, [f"{100 * share:.0f}" for share in kept], fontsize=7)
    axes.set_xticks(range(len(WAYS)), [way.replace(" ", "\n", 1) for way in WAYS], fontsize=8)
    axes.set(ylim=(0, 1.05), ylabel="share of gold sentences kept")
    share = f"{float(budget):.0%}" if float(budget) <= 1 else f"{budget}"
    axes.set_title(f"{name} ({found['records']} questions), {share} of the tokens", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
