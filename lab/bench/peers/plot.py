"""A plot of evidence against time: one panel per set, one point per peer, the frontier as steps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tamis_lab.bench.evidence.plot import figure_class

OUR_COLOURS, THEIR_COLOURS = (
    ("#b5361c", "#e07a3f", "#8c1d40", "#d9a400"),
    ("#33527a", "#3d8a7a", "#7a7a7a"),
)
MARKERS = "oDs^vP*Xh<>d"


def draw_peers(sets: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Writes the plot; the time axis is logarithmic, and tamis has warm colours."""
    figure = figure_class()(figsize=(max(6.0, 4.4 * len(sets)), 4.9), layout="constrained")
    panels = figure.subplots(1, len(sets), squeeze=False, sharey=True)[0]
    styles = _marker_styles(sets)
    for panel, (name, figures) in zip(panels, sets.items(), strict=True):
        _draw_panel(panel, name, figures, styles)
    panels[0].set_ylabel("gold sentences kept")
    handles = {
        label: handle
        for panel in panels
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=2 * len(sets))
    figure.savefig(path, dpi=130)


def _marker_styles(sets: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[str, str]]:
    """Colour and marker of every peer, the same in all panels."""
    ours = {name: of["ours"] for figures in sets.values() for name, of in figures["peers"].items()}
    styles, counts = {}, {True: 0, False: 0}
    for i, (name, is_ours) in enumerate(ours.items()):
        colours = OUR_COLOURS if is_ours else THEIR_COLOURS
        styles[name] = (colours[counts[is_ours] % len(colours)], MARKERS[i % len(MARKERS)])
        counts[is_ours] += 1
    return styles


def _draw_panel(
    panel: Any, name: str, figures: Mapping[str, Any], styles: Mapping[str, tuple[str, str]]
) -> None:
    peers = {n: of for n, of in figures["peers"].items() if "ms_p50" in of}
    steps = [peers[n] for n in figures["frontier"]]
    times, kept = [of["ms_p50"] for of in steps], [of["evidence"] for of in steps]
    panel.step(times, kept, where="post", color="0.75", zorder=1)
    for peer, of in peers.items():
        colour, marker = styles[peer]
        at = (of["ms_p50"], of["evidence"])
        panel.scatter(*at, s=64, color=colour, marker=marker, label=of["label"], zorder=2)
    panel.set(
        title=f"{name}: {figures['mean_tokens_in']:,.0f} tokens, {figures['cases']} cases",
        xlabel="ms a case, median",
        xscale="log",
        ylim=(-0.05, 1.05),
    )
    panel.grid(alpha=0.3)
