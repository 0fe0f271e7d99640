"""A compression as a self-contained web page: no script, no font, no network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING

from tamis.compressors.pipeline.compression import PassageResult
from tamis.service.cli.display.heatmap import heats, timings_text
from tamis.service.cli.display.text import printable

if TYPE_CHECKING:
    from tamis.compressors.types import Compressed

# scripts are forbidden: text of a document could not run even if escaping failed
_HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>tamis: {question}</title>
<style>
:root {{ color-scheme: light dark; --ink: #1c1b19; --paper: #fdfcfa; --line: #e4dfd6;
  --soft: #6f6a61; --hot: 245 140 20; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #ece8e1; --paper: #171614; --line: #35322d; --soft: #9b958a; --hot: 225 120 20; }}
}}
body {{ font: 16px/1.6 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 54rem; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.4rem; line-height: 1.35; margin: 0 0 .4rem; }}
h2 {{ font-size: 1rem; margin: 2.4rem 0 .6rem; padding-bottom: .3rem;
  border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }}
h2 small, .facts, label {{ font-weight: 400; color: var(--soft); font-size: .85rem; }}
table {{ border-collapse: collapse; width: 100%; font-size: .9rem; margin: 1rem 0; }}
th, td {{ text-align: right; padding: .25rem .6rem; border-bottom: 1px solid var(--line);
  font-variant-numeric: tabular-nums; white-space: nowrap; }}
th:first-child, td:first-child {{ text-align: left; white-space: normal;
  overflow-wrap: anywhere; }}
a {{ color: inherit; }}
.text {{ white-space: pre-wrap; overflow-wrap: anywhere; tab-size: 4; }}
.text span {{ color: color-mix(in srgb, var(--ink) 55%, var(--paper));
  background: rgb(var(--hot) / calc(var(--h) * .2)); }}
.text mark {{ color: var(--ink); background: rgb(var(--hot) / calc(.16 + var(--h) * .5));
  border-radius: 3px; box-shadow: 0 0 0 2px rgb(var(--hot) / calc(.16 + var(--h) * .5)); }}
#only:checked ~ article .text span {{ display: none; }}
</style>
</head>
<body>
"""


def html_page(question: str, result: Compressed, found: Sequence[PassageResult]) -> str:
    """The whole context as HTML: kept sentences solid, others faint, each score on hover.

    All text is escaped; control characters and lone surrogates are shown as symbols.
    """
    return "".join(_html_parts(question, result, found))


def _html_parts(question: str, result: Compressed, found: Sequence[PassageResult]) -> Iterator[str]:
    yield _HEAD.format(question=_escape(question))
    yield f"<h1>{_escape(question)}</h1>\n"
    yield (
        f'<p class="facts">kept {len(result.kept)} of {len(result.units)} sentences, '
        f"{result.tokens_in:,} → {result.tokens_out:,} tokens ({result.ratio:.1%}); "
        f"{_escape(result.method)}; {timings_text(result)}</p>\n"
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
