"""`tamis lab bench answers`: how well a language model answers from compressed contexts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tamis.compressors.registry import DEFAULT, DEFAULT_PROXY
from tamis.probes.errors import BadInput
from tamis.service.cli.display.errors import report_errors
from tamis.service.cli.options.compress_options import AsJson
from tamis_lab.options.output_files import check_images, check_targets

_CACHE_BYTES = 1 << 28
_WEAK_F1 = 50
"""F1, in per cent, below which a reader fails more often than not with the whole context."""
EPILOG = """
**Examples**

`tamis lab bench answers records.jsonl.gz --reader smollm2-135m --limit 50`

`tamis lab bench answers records.jsonl.gz --keep 0.5 --orders original,score,edges,attnrank`

`tamis lab bench answers records.jsonl.gz --reader http://localhost:8000/v1 --reader-model my-llm
--keep 0.1,0.3 --png answers.png`

A record is a line `{"id", "question", "answers": ["..."], "docs": [{"title", "text", "sents",
"gold"}]}`. The reader is any OpenAI-compatible server, a model folder, or a model of the zoo, which
is a weak reader: its figures say so. A run that was cut short goes on.
"""


@report_errors()
def answers(
    records: Annotated[
        Path, typer.Argument(help="Records with answers, JSON Lines, optionally gzipped.")
    ],
    reader: Annotated[
        str, typer.Option("--reader", help="A server's base URL, a model folder, or a zoo name.")
    ] = DEFAULT_PROXY,
    reader_model: Annotated[
        str, typer.Option("--reader-model", help="What the server calls its model.")
    ] = "default",
    api_key: Annotated[
        str | None,
        typer.Option("--api-key", envvar="OPENAI_API_KEY", help="For the server."),
    ] = None,
    method: Annotated[str, typer.Option(help="How contexts are compressed.")] = DEFAULT,
    keep: Annotated[str, typer.Option(help="Shares of the tokens, with commas.")] = "0.1,0.2,0.5",
    orders: Annotated[
        str,
        typer.Option(help="In which the kept passages stand, with commas; see `tamis methods`."),
    ] = "original",
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N records.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of an answer.")] = 32,
    kept: Annotated[
        Path, typer.Option("--answers", help="Where answers are kept between runs.")
    ] = Path("answers.jsonl"),
    png: Annotated[Path | None, typer.Option("--png", help="Also draw it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Exact match and F1 of a reader with the whole context, a compressed one, and none."""
    from tamis_lab.bench.answers.quality import (
        AnswerSettings,
        answer_figures,
        answer_records,
        usable_records,
    )
    from tamis_lab.bench.answers.readers import load_reader
    from tamis_lab.datasets.records import load_records

    check_targets(kept)
    check_images(png)
    settings = AnswerSettings(method, _parse_shares(keep), max_tokens, _parse_orders(orders))
    rows = usable_records(load_records(records), limit)
    answerer = load_reader(reader, reader_model, api_key)
    columns = (TextColumn("questions"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=len(rows))
        found = answer_figures(
            answer_records(
                rows,
                _record_compressor(method),
                answerer,
                settings,
                kept,
                lambda i, n: bar.update(task, completed=i),
            )
        )
    if as_json:
        typer.echo(json.dumps({"reader": answerer.identity, "method": method, "conditions": found}))
    else:
        Console().print(_table(found, answerer.identity))
        Console().print(reader_strength(found), highlight=False)
    if png:
        _draw(found, answerer.identity, png)


def _parse_shares(keep: str) -> tuple[float, ...]:
    try:
        shares = tuple(float(share) for share in keep.split(","))
    except ValueError as error:
        raise BadInput(f"--keep is {keep!r}; give shares such as 0.1,0.2") from error
    if bad := [share for share in shares if not 0 < share <= 1]:
        raise BadInput(f"--keep has {bad}; give shares above 0 and up to 1")
    return shares


def _parse_orders(given: str) -> tuple[str, ...]:
    """Known orders from a list with commas.

    Raises:
        BadInput: one is unknown, or the list is empty.
    """
    from tamis.compressors import registry
    from tamis.compressors.rules import PLAIN_ORDERS

    known = sorted({*PLAIN_ORDERS, *registry.method_names("ordering")})
    found = tuple(dict.fromkeys(word.strip() for word in given.split(",") if word.strip()))
    if not found or set(found) - set(known):
        raise BadInput(f"--orders is {given!r}; there are: {', '.join(known)}")
    return found


def _record_compressor(method: str) -> Any:
    """A function that compresses a record as a caller would: with titles, in the proxy's tokens.

    It returns the text, its tokens, and those of the whole context.
    """
    from tamis.compressors.rules import Rules
    from tamis.probes.errors import BudgetTooSmall
    from tamis.probes.kv_cache.cache import PassageCache
    from tamis.service.api.compress import compress
    from tamis_lab.datasets.records import passages_of

    cache = PassageCache(max_bytes=_CACHE_BYTES)  # each record is compressed once per condition

    def compress_record(
        record: Mapping[str, Any], share: float, order: str = "original"
    ) -> tuple[str, int, int]:
        passages, rules = passages_of(dict(record)), Rules(titles=True, order=order)
        try:
            found = compress(
                record["question"],
                passages,
                ratio=share,
                method=method,
                rules=rules,
                cache=cache,
            )
        except BudgetTooSmall:
            return "", 0, 1
        return found.text, found.tokens_out, found.tokens_in

    return compress_record


def reader_strength(found: Mapping[str, Any]) -> str:
    """How well the reader's figures can distinguish contexts."""
    full, none = (100 * found[name]["f1"] for name in ("full", "none"))
    summary = f"F1 with the whole context {full:.0f}, without any {none:.0f}."
    if full >= _WEAK_F1:
        return summary
    return (
        f"{summary} A weak reader: it misses most answers that lie before it, so contexts differ "
        "less than they would for a better one."
    )


def _table(found: Mapping[str, Any], reader: str) -> Table:
    questions = next(iter(found.values()))["questions"]
    table = Table(title=f"{questions} questions, reader {reader}", title_justify="left")
    for column in ("context", "tokens", "exact match", "F1", "F1 less the whole context's"):
        table.add_column(column, justify="left" if column == "context" else "right")
    for name, row in found.items():
        away = row["f1_less_full"]
        table.add_row(
            name,
            f"{100 * row['share_of_tokens']:.0f} %",
            f"{100 * row['exact_match']:.1f}",
            f"{100 * row['f1']:.1f}",
            f"{100 * away['difference']:+.1f} [{100 * away['low']:.1f}, {100 * away['high']:.1f}]",
        )
    return table


def _draw(found: Mapping[str, Any], reader: str, path: Path) -> None:
    """Draws F1 and exact match against the share kept; levels are the whole context and none."""
    from tamis_lab.bench.evidence.plot import figure_class, save_figure

    figure = figure_class()(figsize=(6, 4), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    compressed = {name: row for name, row in found.items() if name.count(" ") == 1}
    for measure, label in (("f1", "F1"), ("exact_match", "exact match")):
        line = axes.plot(
            [row["share_of_tokens"] for row in compressed.values()],
            [row[measure] for row in compressed.values()],
            "o-",
            label=label,
        )[0]
        for name, style in (("full", "--"), ("none", ":")):
            level, colour = found[name][measure], line.get_color()
            axes.axhline(level, linestyle=style, color=colour, label=f"{label}, {name}")
    axes.set(xlabel="share of tokens kept", ylabel="of the reader's answers")
    axes.set_ylim(0, 1.25 * max(0.1, *(row["f1"] for row in found.values())))
    questions = found["full"]["questions"]
    axes.set_title(f"{questions} questions, reader {reader.rsplit('/', 1)[-1]}", fontsize=10)
    axes.legend(fontsize="small", ncols=2)
    save_figure(figure, path)
