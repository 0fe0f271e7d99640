"""Evidence against time: a panel a set, a point a peer, the frontier as steps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tamis.service.evaluation.evidence.plot import figure_class

OURS, THEIRS = ("#b5361c", "#e07a3f", "#8c1d40", "#d9a400"), ("#33527a", "#3d8a7a", "#7a7a7a")
MARKS = "oDs^vP*Xh<>d"


def draw(sets: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Writes the picture: the time axis is logarithmic, tamis is in warm colours."""
    figure = figure_class()(figsize=(max(6.0, 4.4 * len(sets)), 4.9), layout="constrained")
    panels = figure.subplots(1, len(sets), squeeze=False, sharey=True)[0]
    looks = _looks(sets)
    for panel, (name, found) in zip(panels, sets.items(), strict=True):
        _panel(panel, name, found, looks)
    panels[0].set_ylabel("gold sentences kept")
    handles = {
        label: handle
        for panel in panels
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=2 * len(sets))
    figure.savefig(path, dpi=130)


def _looks(sets: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[str, str]]:
    """Colour and mark of every peer, the same in all panels."""
    ours = {name: of["ours"] for found in sets.values() for name, of in found["peers"].items()}
    found, counts = {}, {True: 0, False: 0}
    for i, (name, is_ours) in enumerate(ours.items()):
        colours = OURS if is_ours else THEIRS
        found[name] = (colours[counts[is_ours] % len(colours)], MARKS[i % len(MARKS)])
        counts[is_ours] += 1
    return found


def _panel(
    panel: Any, name: str, found: Mapping[str, Any], looks: Mapping[str, tuple[str, str]]
) -> None:
    peers = {n: of for n, of in found["peers"].items() if "ms_p50" in of}
    steps = [peers[n] for n in found["frontier"]]
    times, kept = [of["ms_p50"] for of in steps], [of["evidence"] for of in steps]
    panel.step(times, kept, where="post", color="0.75", zorder=1)
    for peer, of in peers.items():
        colour, mark = looks[peer]
        at = (of["ms_p50"], of["evidence"])
        panel.scatter(*at, s=64, color=colour, marker=mark, label=of["label"], zorder=2)
    panel.set(
        title=f"{name}: {found['mean_tokens_in']:,.0f} tokens, {found['cases']} cases",
        xlabel="ms a case, median",
        xscale="log",
        ylim=(-0.05, 1.05),
    )
    panel.grid(alpha=0.3)
