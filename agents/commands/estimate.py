"""`tamis estimate`: what tamis would save of a log of requests, before anything is changed."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import typer

from tamis.compressors.options import Option
from tamis.compressors.registry import DEFAULT
from tamis.compressors.rules import Budget
from tamis.probes.extras import import_extra
from tamis.service.cli.display.batch_progress import duration_text
from tamis.service.cli.display.output import dump_json, make_console
from tamis.service.cli.options.compress_options import SHARED, AsJson
from tamis.service.cli.options.model_folder import HomeFolder
from tamis.service.cli.options.typer_options import takes_options
from tamis.text.language import AUTO

if TYPE_CHECKING:
    from tamis_agents.estimate import Estimate

_SHOWN = 3
_LEAST_SHARE = 0.05
"""Tags are named from this share of all tokens between tags that were not named on."""
EPILOG = """
A line is a request as it was sent: a chat for OpenAI's (also `/v1/responses`), Anthropic's or
Gemini's API, a body of `/v1/compress`, or a row of `tamis batch`; bare, or in `request` or `body`,
as in OpenAI's batch files. `usage` or `response.usage` beside it scales tokens to the provider's
counts. Chats with results of tools are an agent's. Other lines are counted, named and passed over.

Requests that begin alike are a conversation; what one repeats is billed as cached, and of shortened
prompts as much as they still share. Answers, images and files are not counted.

**Examples**

`tamis estimate requests.jsonl --price 3 --cached 0.3 --cache-write 3.75`

`zcat requests-*.gz | tamis estimate - --price 2.5 --cached 1.25 --method lexical --json`
"""

_MOST = 1_000_000  # dollars


@takes_options(
    SHARED,
    files=Option("JSON Lines, also packed; `-`: standard input.", metavar="FILE", is_argument=True),
    price=Option("Of a million tokens of input.", flag="--price", le=_MOST),
    cached=Option(
        "Of a million that the provider reads from its cache. Default: --price.", le=_MOST
    ),
    cache_write=Option("Of a million that it writes there. Default: --price.", le=_MOST),
    cache_least=Option("Tokens of the shortest beginning that it keeps.", ge=0),
    machine_hour=Option("Of an hour of a machine like this; reading is subtracted.", le=_MOST),
    time_limit=Option("Seconds of reading; a longer log is sampled, or read by words.", ge=1),
    upstream_cached=Option("As in `serve`: also what stands before the last cache_control."),
    upstream_steps=Option("As in `serve`."),
    upstream_more_requests=Option("As in `serve`.", ge=0),
    upstream_retrieval_tags=Option("As in `serve`: of retrieved context in chats, with commas."),
)
def estimate(
    files: list[str],
    *,
    price: float,
    cached: float | None = None,
    cache_write: float | None = None,
    cache_least: int = 1024,
    machine_hour: float = 0.0,
    budget: Budget,
    method: str = DEFAULT,
    proxy: str = AUTO,
    tokenizer: str = "proxy",
    upstream_cached: bool = False,
    upstream_steps: bool = True,
    upstream_more_requests: float = 0.0,
    upstream_retrieval_tags: str = "",
    time_limit: int = 120,
    json: AsJson = False,
    home: HomeFolder = None,
) -> None:
    """Say what tamis would save of a log of requests, and at what cost; nothing is sent."""
    import_extra("fastapi", "tamis estimate", "service")
    from tamis.service.cli.display.bars import counting_bar
    from tamis.service.http.conversation.billing import Prices
    from tamis.service.http.conversation.tagged import RetrievalTags
    from tamis.service.http.runtime.settings import Settings
    from tamis.service.http.runtime.state import ServiceState, proxy_choice
    from tamis.service.http.runtime.telemetry import Metrics
    from tamis_agents import estimate as dry_run

    cached, write = (price if given is None else given for given in (cached, cache_write))
    prices = Prices(price, cached, write, machine_hour, cache_least)
    tags = RetrievalTags([tag for tag in upstream_retrieval_tags.split(",") if tag])
    choices = dry_run.Choices(budget, method, tokenizer, upstream_cached, tags, time_limit)
    log = dry_run.read_log(files)
    settings = Settings(
        proxy=proxy,
        method=method,
        home=home,
        upstream_steps=upstream_steps,
        upstream_more_requests=upstream_more_requests,
    )
    served = replace(settings, proxy=proxy_choice(settings).proxy)
    state = ServiceState.start(replace(served, cache_bytes=served.cache_bytes_for(0)), Metrics())
    try:
        bar = partial(counting_bar, quiet=not sys.stderr.isatty())
        found = dry_run.estimate(log.requests, state, choices, prices, bar)
    finally:
        state.close()
    machine = found.reading_s / 3600 * machine_hour
    if json:
        unknown = {what: [len(of), of[0]] for what, of in log.unknown.items()}
        typer.echo(dump_json({**asdict(found), "machine_cost": machine, "unknown": unknown}))
        return
    _print_table(found.rows)
    for note in (*_notes(found, method), *_passed_over(log.unknown)):
        typer.echo(note)
    typer.echo(_sentence(found, price, machine))


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table("requests", box=None, pad_edge=False)
    figures = ("", "tokens", "with tamis", "cost", "with tamis", "saved")
    for name in (*figures, "shortened", "as they came", "dearer"):
        table.add_column(name, justify="right")
    for row in rows:
        costs = row["cost_after"], *reversed(row["interval"] or ())
        saved, *spread = (f"{1 - cost / row['cost'] if row['cost'] else 0:.0%}" for cost in costs)
        table.add_row(
            row["kind"],
            *(f"{row[name]:,.0f}" for name in ("requests", "tokens", "tokens_after")),
            *(_money(row[name]) for name in ("cost", "cost_after")),
            saved + (f" ({' to '.join(spread)})" if spread else ""),
            *(f"{row[name]:,.0f}" for name in ("shortened", "passed_on", "dearer")),
        )
    make_console().print(table)


def _notes(found: Estimate, method: str) -> Iterator[str]:
    """What has to be known beside the table, a line each."""
    if found.method != method:
        long = duration_text(found.reading_s)
        yield (
            f"shortened by words ({found.method}): {method} would read for {long} here, longer "
            "than --time-limit"
        )
    if found.sampled < found.units:
        yield (
            f"a sample: {found.sampled:,} of {found.units:,} conversations and RAG requests, "
            "spread over the log; in brackets 95 % intervals (bootstrap over these)"
        )
    if usage := found.usage:
        (low, off, high), (theirs, ours) = usage["off"], usage["cached"]
        yield (
            f"tokens are the provider's: of {usage['requests']:,} requests with usage our counts "
            f"are {off:+.1%} off ({low:+.1%} to {high:+.1%}); it read {theirs:,} tokens from its "
            f"cache, and {ours:,} are in shared beginnings"
        )
    tag, tokens = max(found.tags.items(), key=lambda item: item[1], default=("", 0))
    if (share := tokens / max(1, found.rows[-1]["tokens"])) >= _LEAST_SHARE:
        yield (
            f"{share:.0%} of the tokens stand between <{tag}> and </{tag}> in chats and stay as "
            f"they are: if that was retrieved, add --upstream-retrieval-tags {tag}"
        )
    if misses := found.rows[-1]["misses"]:
        yield (
            f"{misses:,.0f} shortened prompts share less with the one before than they did, and "
            "are billed so; --upstream-cached may mend it"
        )
    faults = sorted(found.faults.items(), key=lambda item: -item[1])
    yield from (f"{times:,} × {fault}" for fault, times in faults[:_SHOWN])


def _passed_over(unknown: dict[str, list[str]]) -> Iterator[str]:
    for what, places in list(unknown.items())[:_SHOWN]:
        yield f"{len(places):,} × passed over: {what} (first {places[0]})"
    if rest := [place for places in list(unknown.values())[_SHOWN:] for place in places]:
        yield f"{len(rest):,} × passed over: something else (first {rest[0]})"


def _sentence(found: Estimate, price: float, machine: float) -> str:
    total = found.rows[-1]
    after, about = total["cost_after"] + machine, "about " if total["interval"] else ""
    net = f", net of {_money(machine)} of machine time"
    reading = f" and {duration_text(found.reading_s)} of reading on a machine like this"
    return (
        f"At ${price:g} a million tokens this log of {total['requests']:,.0f} requests costs "
        f"{_money(total['cost'])}; with tamis {about}{_money(after)}{net if machine else reading}"
        f"{'.' if after < total['cost'] else ': it does not pay.'}"
    )


def _money(value: float) -> str:
    """Dollars to the cent; below one to the first two digits that are not 0."""
    digits = 2 if value >= 1 or value <= 0 else max(2, 1 - math.floor(math.log10(value)))
    return f"${value:,.{digits}f}"
