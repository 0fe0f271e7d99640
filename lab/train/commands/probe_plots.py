"""The weights of a probe drawn, and its figures in tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tamis_lab.options.figures import make_figure, save_figure

if TYPE_CHECKING:
    from tamis.probes.probing.linear import LinearProbe


def head_weights(probe: LinearProbe) -> Any:
    """`[L, H]`: the weight of each head's attention to a unit in the unit's first score.

    Raises:
        BadInput: the probe has no weights of heads.
    """
    from tamis.probes.errors import BadInput

    card = probe.card
    name = next((name for name in ("first", "head", "document") if name in probe.weights), None)
    cells = card.layers * card.heads
    if name is None or len(probe.weights[name]) < cells:
        raise BadInput(f"the probe of {card.method} has no weights of heads; there is no map of it")
    heads = probe.weights[name]
    both = heads[:cells] + heads[cells : 2 * cells] if name == "first" else heads[:cells]
    return both.view(card.layers, card.heads)


def weight_map_text(grid: Any) -> Text:
    """One line per layer, one block per head, the deepest layer on top."""
    peak = float(grid.abs().max()) or 1.0
    lines = Text()
    for layer in reversed(range(grid.shape[0])):
        lines.append(f"layer {layer:>2} ")
        for value in grid[layer].tolist():
            strength = int(40 + 215 * min(1.0, abs(value) / peak))
            colour = f"rgb(20,{strength},60)" if value > 0 else f"rgb({strength},30,40)"
            lines.append("  " if abs(value) < 0.02 * peak else "██", style=colour)
            lines.append(" ")
        lines.append("\n")
    lines.append(" " * 9 + "".join(f"{head:<3}" for head in range(grid.shape[1])) + "head\n")
    return lines


def draw_weight_map(grid: Any, path: Path, probe: LinearProbe) -> None:
    """The grid of `head_weights` as an image."""
    peak = float(grid.abs().max())
    figure = make_figure(2 + grid.shape[1] * 0.4, 1.5 + grid.shape[0] * 0.25)
    axes = figure.add_subplot()
    image = axes.imshow(
        grid.numpy(), cmap="RdYlGn", vmin=-peak, vmax=peak, origin="lower", aspect="auto"
    )
    axes.set(xlabel="head", ylabel="layer", title=f"{probe.card.method}, {probe.card.model}")
    figure.colorbar(image, label="weight of a head's log attention")
    save_figure(figure, path)


def draw_coverage(
    calibrated: dict[str, Any], promises: dict[str, dict[str, Any]], path: Path
) -> None:
    """Coverage asked against coverage reached, and the tokens it costs, a line per set.

    Args:
        calibrated: from the probe's card: halves of the held-out articles against each other.
        promises: per set, as `reached_coverage` gives them.
    """
    figure = make_figure(10, 4.5)
    left, right = figure.subplots(1, 2)
    lines = {"held-out articles of the training sets": calibrated} | promises
    for n, (name, rows) in enumerate(lines.items()):
        targets = [float(target) for target in rows]
        reached = [row["reached"] for row in rows.values()]
        error = [3 * row["se"] for row in rows.values()]
        style = "o-" if n == 0 else ".--"
        left.errorbar(targets, reached, error, fmt=style, capsize=2, label=name)
        right.plot([row["tokens"] for row in rows.values()], reached, style, label=name)
    left.axline((0.5, 0.5), slope=1, color="grey", linewidth=0.8)
    left.set(xlabel="coverage asked", ylabel="all evidence kept, ± 3 standard errors")
    right.set(xlabel="share of tokens kept", ylabel="all evidence kept")
    right.legend(fontsize="small")
    save_figure(figure, path)


def print_figures(figures: Any) -> None:
    """Prints the figures of a probe's card: evidence kept, calibration and coverage."""
    metrics = figures.get("held_out")
    if not metrics or "brier_skill" not in metrics:
        Console().print(figures)  # those of sentinel, or of the probe that ranks documents
        return
    skill = metrics["brier_skill"]
    Console().print(
        f"{metrics['questions']} questions, {metrics['units']} sentences: "
        f"AUC {metrics['auc']:.3f}, Brier skill {skill[0]:.3f} [{skill[1]:.3f}, {skill[2]:.3f}]"
    )
    table = Table(
        "set", "questions", *(f"gold kept (all) at {share}" for share in _shares(metrics))
    )
    for name, rows in metrics["evidence"].items():
        cells = [f"{gold:.3f} ({whole:.3f})" for gold, whole, _ in rows.values()]
        table.add_row(name, str(next(iter(rows.values()))[2]), *cells)
    Console().print(table)
    bins = Table("p from", "sentences", "mean p", "rate")
    for row in metrics["reliability"]:
        bins.add_row(
            f"{row['from']:.1f}", str(row["units"]), f"{row['mean_p']:.3f}", f"{row['rate']:.3f}"
        )
    Console().print(bins)
    _print_coverage(figures)


def _print_coverage(figures: Any) -> None:
    """Coverage asked and reached with its cost, and how well a missing answer is detected."""
    if coverage := figures.get("coverage"):
        table = Table("coverage asked", "reached", "standard error", "tokens kept")
        for target, row in coverage.items():
            cells = (f"{row['reached']:.3f}", f"{row['se']:.3f}", f"{row['tokens']:.3f}")
            table.add_row(target, *cells)
        Console().print(table)
    for name, rows in figures.get("promises", {}).items():
        table = Table("coverage asked", "reached", "tokens kept", title=name)
        for target, row in rows.items():
            table.add_row(target, f"{row['reached']:.3f} ± {row['se']:.3f}", f"{row['tokens']:.3f}")
        Console().print(table)
    if answerability := figures.get("answerability"):
        table = Table("set", "AUROC, no answer", "questions", "AUROC, gold taken away", "questions")
        for name, row in answerability.items():
            table.add_row(
                name,
                _share(row["auroc"]),
                f"{row['answerable']} + {row['unanswerable']}",
                _share(row["auroc_without_gold"]),
                f"{row['answerable']} + {row['without_gold']}",
            )
        Console().print(table)


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _shares(metrics: Any) -> list[str]:
    return list(next(iter(metrics["evidence"].values()), {}))
