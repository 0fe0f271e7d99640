"""`tamis lab bench break-even`: when compression pays, in money and in time."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from tamis.service.cli.display.errors import report_errors
from tamis.service.cli.options.compress_options import AsJson

if TYPE_CHECKING:
    from tamis_lab.bench.answers.break_even import BreakEven, Deployment

EPILOG = """
**Examples**

`tamis lab bench break-even --price 0.15 --next-ms-per-1k 20`

`tamis lab bench break-even --ms-per-1k 55 --machine-per-hour 0.05 --keep 0.2 --price 2.5
--next-ms-per-1k 400 --tokens 8000`

Measure --ms-per-1k with `tamis lab bench speed`: 395 is one core and a first reading, 55 passages
of 512 tokens whose keys are kept. Time the next model with a long and a short prompt: the
difference, over the difference in thousands of tokens, is --next-ms-per-1k. Whether answers stay
as good is
another question: `tamis lab bench answers`.
"""


@report_errors()
def break_even(
    price: Annotated[float, typer.Option(help="Of a million input tokens at the next model.")],
    next_ms_per_1k: Annotated[
        float, typer.Option(help="Milliseconds the next model takes to read 1,000 tokens.")
    ],
    ms_per_1k: Annotated[float, typer.Option(help="Milliseconds tamis takes for 1,000.")] = 395,
    machine_per_hour: Annotated[
        float, typer.Option(help="Price of tamis's machine an hour, in the same money.")
    ] = 0.05,
    keep: Annotated[float, typer.Option(help="Share of the tokens that is kept.")] = 0.2,
    fixed_ms: Annotated[float, typer.Option(help="Milliseconds a request, beside.")] = 0,
    tokens: Annotated[int, typer.Option(help="Of a request's context.")] = 4000,
    as_json: AsJson = False,
) -> None:
    """What compression costs and saves a request, and from which price and slowness on it pays."""
    from tamis_lab.bench.answers.break_even import Deployment
    from tamis_lab.bench.answers.break_even import break_even as verdict_of

    setting = Deployment(ms_per_1k, machine_per_hour, keep, price, next_ms_per_1k, fixed_ms)
    verdict = verdict_of(tokens, setting)
    if as_json:
        typer.echo(json.dumps({"tokens": tokens, **asdict(setting), **_verdict_facts(verdict)}))
        return
    console = Console()
    for line in _verdict_lines(tokens, setting, verdict):
        console.print(line, highlight=False, soft_wrap=True)


def _verdict_facts(verdict: BreakEven) -> dict[str, float | bool]:
    return asdict(verdict) | {"cheaper": verdict.cheaper, "faster": verdict.faster}


def _verdict_lines(tokens: int, setting: Deployment, verdict: BreakEven) -> tuple[str, ...]:
    """Lines on money and time: what compression costs and saves, and where it breaks even."""
    money = "pays" if verdict.cheaper else "does not pay"
    time = "sooner" if verdict.faster else "later"
    return (
        f"{tokens:,} tokens in, {setting.keep:.0%} kept.",
        f"Money: [bold]{money}[/bold]: {verdict.cost:.2g} for the machine against "
        f"{verdict.saved:.2g} of input tokens; from {verdict.price_from:.2g} a million tokens on "
        "it does.",
        f"Time: the answer comes [bold]{time}[/bold]: {verdict.ms_spent:,.0f} ms here against "
        f"{verdict.ms_saved:,.0f} ms there; where 1,000 tokens take the next model "
        f"{verdict.next_ms_from:,.0f} ms or more, it comes sooner.",
    )
