"""The table of patterns in the terminal, and the map of similar layers as an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from tamis_lab.bench.evidence.plot import figure_class, save_figure


def pattern_table(rows: Sequence[Mapping[str, Any]], tokens: int) -> Table:
    """The rows of one length of prompts."""
    own = [row for row in rows if row["tokens"] == tokens]
    title = f"{tokens:,} tokens, {own[0]['prompts']} prompts"
    table = Table(title=title, title_justify="left")
    table.add_column("pattern", no_wrap=True)
    shares = list(own[0]["kept"])
    heads = ("share", "density", "coverage", "least", "hidden", "unit ρ", "5th")
    for name in (*heads, *(f"gold {float(share):.0%}" for share in shares), "ms", "× dense"):
        table.add_column(name, justify="right")
    for row in own:
        figures = ("density", "coverage", "least_coverage", "hidden_error", "unit_rho")
        cells = [_figure(row[name]) for name in (*figures, "unit_rho_5th")]
        gold = [_gold(row, share) for share in shares]
        times = f"{row['ms_dense'] / max(row['ms'], 1e-9):.2f}"
        table.add_row(row["pattern"], f"{row['share']:g}", *cells, *gold, f"{row['ms']:.0f}", times)
    return table


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _gold(row: Mapping[str, Any], share: str) -> str:
    """Per cent of gold kept, and the interval of the lead over the dense pass, in points."""
    _, low, high = row["ahead_of_dense"][share]
    lead = f" [{100 * low:+.0f}, {100 * high:+.0f}]" if low or high else ""
    return f"{100 * row['kept'][share]:.0f}{lead}"


def draw_similarity(similarity: Sequence[Sequence[float]], path: Path) -> None:
    """Writes the map of how alike the question's rows of two layers are.

    Raises:
        MissingExtra: matplotlib is not installed. BadInput: the file cannot be written.
    """
    figure = figure_class()(figsize=(5.4, 4.6), dpi=150, layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(similarity, vmin=0, vmax=1, cmap="viridis", origin="lower")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_label_text("layer")
        axis.get_major_locator().set_params(integer=True)
    axes.set_title("cosine of the question's rows, mean over heads", fontsize=10)
    figure.colorbar(image, ax=axes)
    save_figure(figure, path)
