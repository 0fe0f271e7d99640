"""A plot of domains: what each method keeps of a domain that its fit never saw."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tamis.probes.errors import BadInput
from tamis_lab.bench.domains.figures import FREE
from tamis_lab.bench.evidence.plot import figure_class

# Okabe & Ito's palette; free methods are drawn hollow
_COLOURS = {
    "default": "#000000",
    "without encoder": "#D55E00",
    "attention alone": "#E69F00",
    "bm25": "#0072B2",
    "minilm": "#009E73",
    "bm25+minilm": "#56B4E9",
}
_ROW_INCHES = 0.45


def draw_domains(figures: Mapping[str, Any], path: Path) -> None:
    """Writes the plot: a panel a share of the tokens, a row a domain, a mark a method.

    Args:
        figures: as `domain_figures` returns them.

    Raises:
        MissingExtra: matplotlib is not installed. BadInput: the file cannot be written.
    """
    rows = max(len(of["domains"]) for of in figures.values())
    figure = figure_class()(
        figsize=(5.2 * len(figures), 1.6 + _ROW_INCHES * rows), dpi=150, layout="constrained"
    )
    axes = figure.subplots(1, len(figures), squeeze=False, sharey=True).flatten()
    for panel, (share, of) in zip(axes, figures.items(), strict=True):
        _draw_panel(panel, share, of)
    lines, labels = axes[0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside lower center", ncols=3, frameon=False)
    try:
        figure.savefig(path)
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error}") from error


def _draw_panel(panel: Any, share: str, of: Mapping[str, Any]) -> None:
    domains = list(of["domains"])
    for method in of["mean_kept"]:
        colour = _COLOURS.get(method, "#CC79A7")
        panel.plot(
            [of["domains"][domain]["kept"][method] for domain in domains],
            range(len(domains)),
            "o",
            color=colour,
            markerfacecolor="none" if method in FREE else colour,
            label=method,
        )
    panel.set_yticks(range(len(domains)), domains)
    panel.set_xlim(0, 1)
    panel.set_xlabel(f"gold sentences kept at {float(share):.0%} of the tokens")
    panel.grid(axis="y", alpha=0.3)
    panel.invert_yaxis()
