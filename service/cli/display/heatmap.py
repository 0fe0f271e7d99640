"""A compression in a terminal: sentences with their scores, the kept ones bright."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.style import Style
from rich.table import Table
from rich.text import Text

from tamis.compressors.pipeline.results import PassageResult
from tamis.service.cli.display.answer import shown

if TYPE_CHECKING:
    from tamis.compressors.types import Compressed

Colour = tuple[int, int, int]
# kept: black on a shade, faint: a shade alone; both can be read on light and on dark terminals
_PALE: Colour = (253, 240, 205)
_HOT: Colour = (250, 140, 30)
_GREY: Colour = (128, 128, 128)
_EMBER: Colour = (190, 105, 20)
_TEPID = 0.25
KEPT, DROPPED = "●", "·"
NEIGHBOURS = 1
_SECOND_MS = 1000


def heats(scores: Sequence[float]) -> list[float]:
    """0 for the lowest score, 1 for the highest; 0 where all are equal.

    The root of the share of the range: probabilities crowd near zero, and would look alike there.
    """
    low, high = min(scores, default=0.0), max(scores, default=0.0)
    return [((score - low) / (high - low)) ** 0.5 if high > low else 0.0 for score in scores]


def explained(
    question: str, result: Compressed, found: Sequence[PassageResult], everything: bool = False
) -> Iterator[RenderableType]:
    """The question, sentences shaded, a table of the sources, tokens and timings.

    Args:
        everything: show every sentence, not only the kept ones and those next to them.
    """
    yield Text.assemble(("Question  ", "bold"), shown(question))
    if not result.scores:
        yield Text("The whole context fits: no model was asked, nothing is scored.", "italic")
    shares = heats(result.scores)
    for source in found:
        yield Text()
        yield from heat_map(source, result, shares, everything)
    yield Text()
    yield source_table(found)
    yield totals(result)


def heat_map(
    source: PassageResult, result: Compressed, shares: Sequence[float], everything: bool = False
) -> Iterator[RenderableType]:
    """A header and one row a sentence: mark, score, text; a run that is passed over is one row."""
    title = Text.assemble((shown(source.label), "bold"), f"  {_facts(source)}")
    yield Rule(title, align="left", style="dim", characters="─")
    rows = Table.grid(padding=(0, 1))
    rows.add_column()
    rows.add_column(justify="right")
    rows.add_column(overflow="fold")
    for run, is_shown in runs(source, everything):
        if not is_shown:
            rows.add_row(Text(DROPPED, "dim"), Text(), Text(passed_over(run, result), "dim"))
            continue
        for u in run:
            rows.add_row(*_row(u, source, result, shares[u] if shares else 0.0))
    yield rows


def runs(source: PassageResult, everything: bool = False) -> Iterator[tuple[tuple[int, ...], bool]]:
    """A source's units in order, in runs, and whether a run is shown or passed over.

    Shown are kept units and up to `NEIGHBOURS` on both sides of each; all of them if `everything`.
    """
    kept = set(source.kept)
    near = {
        v
        for i, u in enumerate(source.units)
        if everything or u in kept
        for v in source.units[max(0, i - NEIGHBOURS) : i + NEIGHBOURS + 1]
    }
    for is_shown, run in groupby(source.units, near.__contains__):
        yield tuple(run), is_shown


def passed_over(run: Sequence[int], result: Compressed) -> str:
    """How many units are not shown, and the best score among them."""
    best = f", best {max(result.scores[u] for u in run):.2f}" if result.scores else ""
    return f"{len(run)} more{best}"


def _row(u: int, source: PassageResult, result: Compressed, heat: float) -> tuple[Text, Text, Text]:
    start, stop = result.units[u].visible
    kept = u in source.kept
    score = f"{result.scores[u]:.2f}" if result.scores else ""
    return (
        Text(KEPT if kept else DROPPED, "" if kept else "dim"),
        Text(score, "bold" if kept else "dim"),
        Text(shown(source.passage.text[start:stop]), shade(heat, kept)),
    )


def shade(heat: float, kept: bool) -> Style:
    """Solid for a kept sentence, faint for another; hotter is deeper."""
    if kept:
        return Style(color="#000000", bgcolor=_mixed(_PALE, _HOT, heat), bold=True)
    # grey on eight colours may be white on white: a cold sentence keeps the terminal's own
    return Style(color=_mixed(_GREY, _EMBER, heat)) if heat > _TEPID else Style(dim=True)


def source_table(found: Sequence[PassageResult]) -> Table:
    """Source, score, sentences kept, tokens before and after."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("source", overflow="fold")
    for name in ("score", "kept", "tokens"):
        table.add_column(name, justify="right")
    for source in found:
        table.add_row(
            Text(shown(source.label)),
            "" if source.score is None else f"{source.score:.2f}",
            f"{len(source.kept)} of {len(source.units)}",
            f"{source.tokens_before:,} → {source.tokens_after:,}",
            style="" if source.kept else "dim",
        )
    return table


def totals(result: Compressed) -> Group:
    """Tokens in and out, sentences kept, timings; then the warnings."""
    line = Text.assemble(
        "kept ",
        (f"{len(result.kept)} of {len(result.units)}", "bold"),
        " sentences, ",
        (f"{result.tokens_in:,} → {result.tokens_out:,}", "bold"),
        f" tokens ({result.ratio:.1%})",
        (f"   {timings(result)}", "dim"),
    )
    return Group(line, *(Text(f"warning: {warning}", "yellow") for warning in result.warnings))


def timings(result: Compressed) -> str:
    """How long each step took, the total last."""
    names = ("load", "read", "select", "total")
    took = [(name, result.timings_ms[name]) for name in names if name in result.timings_ms]
    return ", ".join(f"{name} {_duration(ms)}" for name, ms in took)


def _duration(ms: float) -> str:
    return f"{ms / _SECOND_MS:.2f} s" if ms >= _SECOND_MS else f"{ms:.0f} ms"


def _facts(source: PassageResult) -> str:
    score = "" if source.score is None else f"score {source.score:.2f}, "
    return f"{score}{source.tokens_before:,} → {source.tokens_after:,} tokens"


def _mixed(cold: Colour, hot: Colour, heat: float) -> str:
    red, green, blue = (round(a + (b - a) * heat) for a, b in zip(cold, hot, strict=True))
    return f"#{red:02x}{green:02x}{blue:02x}"
