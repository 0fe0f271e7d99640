"""Profiles of heads and of position bias drawn: on the terminal, or as an image with matplotlib."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.text import Text

from tamis.probes.probing.heads import HeadProfile
from tamis_lab.methods.position_bias import PositionProfile


def head_map_text(profile: HeadProfile, best: int) -> Text:
    """One line per layer, one block per head, the deepest on top; the best k have their rank."""
    peak = max((abs(v) for row in profile.scores for v in row), default=0.0) or 1.0
    rank = {head: i for i, head in enumerate(profile.best(best), 1)}
    lines = Text()
    for layer in reversed(range(profile.layers)):
        lines.append(f"layer {layer:>2} ")
        for head, value in enumerate(profile.scores[layer]):
            strength = int(40 + 215 * min(1.0, abs(value) / peak))
            colour = f"rgb(20,{strength},60)" if value >= 0 else f"rgb({strength},30,40)"
            place = rank.get((layer, head))
            shown = f"{place:>2}" if place else ("  " if abs(value) < 0.02 * peak else "██")
            lines.append(shown, style=f"bold black on {colour}" if place else colour)
            lines.append(" ")
        lines.append("\n")
    lines.append(" " * 9 + "".join(f"{head:<3}" for head in range(profile.heads)) + "head\n")
    return lines


def draw_head_map(profile: HeadProfile, path: Path) -> None:
    """The same map as an image.

    Raises:
        MissingExtra: matplotlib is not installed. BadInput: the file cannot be written.
    """

    def paint(axes: Any, figure: Any) -> None:
        peak = max(abs(v) for row in profile.scores for v in row) or 1.0
        signed = any(v < 0 for row in profile.scores for v in row)
        image = axes.imshow(
            profile.scores,
            cmap="RdYlGn" if signed else "viridis",
            vmin=-peak if signed else 0,
            vmax=peak,
            origin="lower",
            aspect="auto",
        )
        axes.set(xlabel="head", ylabel="layer", title=f"{profile.model}: heads by {profile.by}")
        figure.colorbar(image, label="score")

    _draw_figure(path, (2 + profile.heads * 0.4, 1.5 + profile.layers * 0.25), paint)


def position_bias_text(profile: PositionProfile) -> Text:
    """A bar per position in the list of documents, for the layer that is used."""
    peak = max(profile.shares)
    lines = Text(f"layer {profile.layer}, share of attention by place\n")
    for place, share in enumerate(profile.shares, 1):
        lines.append(f"{place:>3} {share:6.1%} ")
        lines.append("█" * round(40 * share / peak) + "\n", style="green")
    return lines


def draw_position_bias(profile: PositionProfile, path: Path) -> None:
    """The share of attention by position: all layers as thin lines, the one that is used on top.

    Raises:
        MissingExtra: matplotlib is not installed. BadInput: the file cannot be written.
    """

    def paint(axes: Any, figure: Any) -> None:
        places = range(1, len(profile.shares) + 1)
        for shares in profile.by_layer:
            axes.plot(places, shares, color="0.8", linewidth=0.8)
        axes.plot(places, profile.shares, color="#0072B2", linewidth=2.4, marker="o")
        axes.axhline(1 / len(profile.shares), color="0.5", linestyle=":", linewidth=1)
        axes.set(
            xlabel="place of the document",
            ylabel="share of attention",
            title=f"{profile.model}: attention basin, layer {profile.layer}",
        )
        axes.set_ylim(0)

    _draw_figure(path, (6.0, 4.0), paint)


def _draw_figure(path: Path, size: tuple[float, float], paint: Callable[[Any, Any], None]) -> None:
    from tamis_lab.options.figures import make_figure, save_figure

    figure = make_figure(*size)
    paint(figure.add_subplot(), figure)
    save_figure(figure, path)
