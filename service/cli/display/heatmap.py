"""A compression shown: sentences with their scores, on a terminal or as a page of HTML."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.style import Style
from rich.table import Table
from rich.text import Text

from tamis.compressors.pipeline.compression import PassageResult
from tamis.service.cli.display.output import printable

if TYPE_CHECKING:
    from tamis.compressors.types import Compressed

Colour = tuple[int, int, int]
# kept sentences are black on a colour, others coloured text: readable on light and dark terminals
_PALE: Colour = (253, 240, 205)
_HOT: Colour = (250, 140, 30)
_GREY: Colour = (128, 128, 128)
_EMBER: Colour = (190, 105, 20)
_TEPID = 0.25
KEPT, DROPPED = "●", "·"
NEIGHBOURS = 1
_SECOND_MS = 1000
VERDICTS = {"answerable": "green", "partly": "yellow", "unanswerable": "bold red", None: "dim"}


def heats(scores: Sequence[float]) -> list[float]:
    """0 for the lowest score, 1 for the highest; 0 where all are equal.

    The square root of the share of the range, since probabilities crowd near zero and would look
    alike there.
    """
    low, high = min(scores, default=0.0), max(scores, default=0.0)
    return [((score - low) / (high - low)) ** 0.5 if high > low else 0.0 for score in scores]


def explanation(
    question: str, result: Compressed, found: Sequence[PassageResult], everything: bool = False
) -> Iterator[RenderableType]:
    """The question, shaded sentences, a table of the passages, tokens and timings.

    Args:
        everything: show every sentence, not only the kept ones and those next to them.
    """
    yield Text.assemble(("Question  ", "bold"), printable(question))
    if not result.scores:
        yield Text("The whole context fits: no model was asked, nothing is scored.", "italic")
    shares = heats(result.scores)
    for source in found:
        yield Text()
        yield from heat_map(source, result, shares, everything)
    yield Text()
    yield source_table(found)
    yield compression_totals(result)


def heat_map(
    source: PassageResult, result: Compressed, shares: Sequence[float], everything: bool = False
) -> Iterator[RenderableType]:
    """A header and one row per sentence: mark, score, text; a skipped run is one row."""
    title = Text.assemble((printable(source.label), "bold"), f"  {_passage_facts(source)}")
    yield Rule(title, align="left", style="dim", characters="─")
    rows = Table.grid(padding=(0, 1))
    rows.add_column()
    rows.add_column(justify="right")
    rows.add_column(overflow="fold")
    for run, is_shown in unit_runs(source, everything):
        if not is_shown:
            rows.add_row(Text(DROPPED, "dim"), Text(), Text(skipped_text(run, result), "dim"))
            continue
        for u in run:
            rows.add_row(*_row(u, source, result, shares[u] if shares else 0.0))
    yield rows


def unit_runs(
    source: PassageResult, everything: bool = False
) -> Iterator[tuple[tuple[int, ...], bool]]:
    """A passage's units in order, in runs, and whether each run is shown or skipped.

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


def skipped_text(run: Sequence[int], result: Compressed) -> str:
    """The number of units that are not shown, and the best score among them."""
    best = f", best {max(result.scores[u] for u in run):.2f}" if result.scores else ""
    return f"{len(run)} more{best}"


def _row(u: int, source: PassageResult, result: Compressed, heat: float) -> tuple[Text, Text, Text]:
    start, stop = result.units[u].visible
    kept = u in source.kept
    score = f"{result.scores[u]:.2f}" if result.scores else ""
    return (
        Text(KEPT if kept else DROPPED, "" if kept else "dim"),
        Text(score, "bold" if kept else "dim"),
        Text(printable(source.passage.text[start:stop]), shade(heat, kept)),
    )


def shade(heat: float, kept: bool) -> Style:
    """A background for a kept sentence, a text colour for another; a higher heat is deeper."""
    if kept:
        return Style(color="#000000", bgcolor=_mix(_PALE, _HOT, heat), bold=True)
    # with eight colours grey may be white on white: a cold sentence keeps the terminal's colour
    return Style(color=_mix(_GREY, _EMBER, heat)) if heat > _TEPID else Style(dim=True)


def source_table(found: Sequence[PassageResult]) -> Table:
    """A row per passage: name, score, sentences kept, tokens before and after."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("source", overflow="fold")
    for name in ("score", "kept", "tokens"):
        table.add_column(name, justify="right")
    for source in found:
        table.add_row(
            Text(printable(source.label)),
            "" if source.score is None else f"{source.score:.2f}",
            f"{len(source.kept)} of {len(source.units)}",
            f"{source.tokens_before:,} → {source.tokens_after:,}",
            style="" if source.kept else "dim",
        )
    return table


def compression_totals(result: Compressed) -> Group:
    """What was kept and read, timings; then the warnings, and whether there is an answer."""
    line = Text.assemble(result.counts, (f"   {timings_text(result)}", "dim"))
    line.highlight_regex(r"\d[\d,]* (of|→) \d[\d,]*", "bold")
    warnings = (Text(printable(f"warning: {warning}"), "yellow") for warning in result.warnings)
    return Group(line, *warnings, Text(printable(result.judgement), VERDICTS[result.verdict]))


def timings_text(result: Compressed) -> str:
    """The duration of each step, the total last."""
    names = ("load", "read", "select", "total")
    durations = [(name, result.timings_ms[name]) for name in names if name in result.timings_ms]
    return ", ".join(f"{name} {_duration_text(ms)}" for name, ms in durations)


def _duration_text(ms: float) -> str:
    return f"{ms / _SECOND_MS:.2f} s" if ms >= _SECOND_MS else f"{ms:.0f} ms"


def _passage_facts(source: PassageResult) -> str:
    score = "" if source.score is None else f"score {source.score:.2f}, "
    return f"{score}{source.tokens_before:,} → {source.tokens_after:,} tokens"


def _mix(cold: Colour, hot: Colour, heat: float) -> str:
    red, green, blue = (round(a + (b - a) * heat) for a, b in zip(cold, hot, strict=True))
    return f"#{red:02x}{green:02x}{blue:02x}"


_HEAD = Path(__file__).with_name("heatmap.html")
"""It forbids scripts: text of a document could not run even if escaping failed."""


def html_page(question: str, result: Compressed, found: Sequence[PassageResult]) -> str:
    """The whole context as HTML: kept sentences solid, others faint, each score on hover.

    All text is escaped; control characters and lone surrogates are shown as symbols.
    """
    return "".join(_html_parts(question, result, found))


def _html_parts(question: str, result: Compressed, found: Sequence[PassageResult]) -> Iterator[str]:
    yield _HEAD.read_text("utf8").replace("{question}", _escape(question))
    yield f"<h1>{_escape(question)}</h1>\n"
    yield (
        f'<p class="facts">{result.counts}; {_escape(result.method)}; {timings_text(result)}</p>\n'
        f'<p class="facts">{_escape(result.judgement)}</p>\n'
    )
    yield from (f'<p class="facts">{_escape(warning)}</p>\n' for warning in result.warnings)
    yield from _table(found)
    yield '<input type="checkbox" id="only"> <label for="only">only what was kept</label>\n'
    shares = heats(result.scores)
    for source in found:
        yield from _article(source, result, shares)
    yield "</body>\n</html>\n"


def _table(found: Sequence[PassageResult]) -> Iterator[str]:
    yield "<table>\n<tr><th>source</th><th>score</th><th>kept</th><th>tokens</th></tr>\n"
    for source in found:
        yield (
            f'<tr><td><a href="#d{source.index}">{_escape(source.label)}</a></td>'
            f"<td>{_score(source.score)}</td><td>{len(source.kept)} of {len(source.units)}</td>"
            f"<td>{source.tokens_before:,} → {source.tokens_after:,}</td></tr>\n"
        )
    yield "</table>\n"


def _article(source: PassageResult, result: Compressed, shares: Sequence[float]) -> Iterator[str]:
    """One document; every unit has its heat and its score, the white space between units none."""
    yield f'<article id="d{source.index}">\n<h2>{_escape(source.label)} '
    yield f"<small>{source.tokens_before:,} → {source.tokens_after:,} tokens</small></h2>\n"
    yield '<div class="text">'
    text, kept, at = source.passage.text, set(source.kept), 0
    for u in source.units:
        start, stop = result.units[u].visible
        tag, word = ("mark", "kept") if u in kept else ("span", "left out")
        hint = f"{_score(result.scores[u])}, {word}" if result.scores else word
        heat = shares[u] if shares else 0.0
        yield _escape(text[at:start])
        yield f'<{tag} style="--h:{heat:.3f}" title="{hint}">{_escape(text[start:stop])}</{tag}>'
        at = stop
    yield f"{_escape(text[at:])}</div>\n</article>\n"


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _escape(text: str) -> str:
    return escape(printable(text), quote=True)
