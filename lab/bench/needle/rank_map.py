"""The usual map of a needle sweep: depth against length, green where the needle is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table

from tamis_lab.bench.evidence.plot import figure_class, save_figure
from tamis_lab.bench.needle.sweep import NeedleCell

_KEPT, _LOST = "#009E73", "#D55E00"
_CELL_INCHES = (0.75, 0.42)


def _lengths(cells: Sequence[NeedleCell]) -> list[int]:
    return sorted({cell.length for cell in cells})


def rank_map(name: str, cells: Sequence[NeedleCell]) -> Group:
    """The terminal map of one method: depths in rows, lengths in columns, ranks in the cells."""
    kept = sum(cell.kept for cell in cells)
    line = f"[bold]{name}[/bold]: kept in {kept} of {len(cells)} cells, {_format_cost(cells)}"
    return Group(line, _rank_table(cells), "")


def _rank_table(cells: Sequence[NeedleCell]) -> Table:
    table = Table(box=None, header_style="bold")
    table.add_column("depth")
    for length in (lengths := _lengths(cells)):
        table.add_column(f"{length:,}", justify="right")
    at = {(cell.depth, cell.length): cell for cell in cells}
    for depth in dict.fromkeys(cell.depth for cell in cells):
        row = [at.get((depth, length)) for length in lengths]
        table.add_row(f"{depth:.0%}", *(_format_rank(cell) for cell in row))
    return table


def _format_cost(cells: Sequence[NeedleCell]) -> str:
    tokens, seconds = sum(c.tokens_read for c in cells), sum(c.ms for c in cells) / 1e3
    return f"{tokens:,} tokens read in {seconds:,.0f} s"


def _format_rank(cell: NeedleCell | None) -> str:
    if cell is None:
        return ""
    return f"[green]{cell.rank}[/green]" if cell.kept else f"[red]{cell.rank} lost[/red]"


def draw_rank_map(sweeps: Mapping[str, Sequence[NeedleCell]], path: Path) -> None:
    """Writes the map as a plot, one panel per method.

    Raises:
        MissingExtra: matplotlib is not installed. BadInput: the file cannot be written.
    """
    lengths = max((_lengths(cells) for cells in sweeps.values()), key=len)
    depths = {cell.depth for cells in sweeps.values() for cell in cells}
    width, height = _CELL_INCHES
    size = ((1.4 + width * len(lengths)) * len(sweeps), 1.4 + height * len(depths))
    figure = figure_class()(figsize=size, dpi=150, layout="constrained")
    panels = figure.subplots(1, len(sweeps), squeeze=False)[0]
    for axes, (name, cells) in zip(panels, sweeps.items(), strict=True):
        _draw_panel(axes, name, cells)
    save_figure(figure, path)


def _draw_panel(axes: Any, name: str, cells: Sequence[NeedleCell]) -> None:
    """Draws one square per cell, with the needle's rank in it."""
    lengths, depths = _lengths(cells), sorted({cell.depth for cell in cells})
    for cell in cells:
        x, y = lengths.index(cell.length), depths.index(cell.depth)
        axes.bar(x, 0.92, 0.96, y - 0.46, color=_KEPT if cell.kept else _LOST)
        axes.text(x, y, str(cell.rank), ha="center", va="center", color="white", fontsize=8)
    axes.set_xticks(range(len(lengths)), [f"{length:,}" for length in lengths], fontsize=7)
    axes.set_yticks(range(len(depths)), [f"{depth:.0%}" for depth in depths])
    axes.set(xlim=(-0.5, len(lengths) - 0.5), ylim=(len(depths) - 0.5, -0.5))
    axes.set(xlabel="tokens of the haystack", ylabel="depth of the needle")
    axes.set_title(f"{name}: rank of the needle", fontsize=10)
