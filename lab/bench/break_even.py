"""`tamis lab bench break-even`: when compression pays, in money and in time.

When does compression pay? Its cost against what it saves at the next model.

    cost    C · c            C thousands of tokens in, c the cost of tamis for a thousand
    saving  C · (1-k) · s    k the share that is kept, s the cost of the next model for a thousand

Both are linear in the tokens, so the length cancels: compression pays where `c < (1 - k) · s`, for
money and for time alike. The smallest price and the fewest milliseconds of the next model at which
it pays follow.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Annotated

import typer

from tamis.probes.errors import BadInput
from tamis.service.cli.display.output import report_errors
from tamis_lab.bench.study import Study
from tamis_lab.options.shared import Json

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
    as_json: Json = False,
) -> None:
    """What compression costs and saves a request, and from which price and slowness on it pays."""
    setting = Deployment(ms_per_1k, machine_per_hour, keep, price, next_ms_per_1k, fixed_ms)
    found = costs_and_savings(tokens, setting)
    facts = asdict(found) | {"cheaper": found.cheaper, "faster": found.faster}
    figures = {"tokens": tokens, **asdict(setting), **facts}
    Study(as_json).publish(figures, lambda: _verdict_lines(tokens, setting, found))


def _verdict_lines(tokens: int, setting: Deployment, found: BreakEven) -> tuple[str, ...]:
    """Lines on money and time: what compression costs and saves, and where it breaks even."""
    money = "pays" if found.cheaper else "does not pay"
    time = "sooner" if found.faster else "later"
    return (
        f"{tokens:,} tokens in, {setting.keep:.0%} kept.",
        f"Money: [bold]{money}[/bold]: {found.cost:.2g} for the machine against "
        f"{found.saved:.2g} of input tokens; from {found.price_from:.2g} a million tokens on it "
        "does.",
        f"Time: the answer comes [bold]{time}[/bold]: {found.ms_spent:,.0f} ms here against "
        f"{found.ms_saved:,.0f} ms there; where 1,000 tokens take the next model "
        f"{found.next_ms_from:,.0f} ms or more, it comes sooner.",
    )


def costs_and_savings(tokens: int, deployment: Deployment) -> BreakEven:
    """Costs and savings of compressing a context of so many tokens.

    Raises:
        BadInput: fewer than 1 token.
    """
    if tokens < 1:
        raise BadInput(f"tokens is {tokens}; give at least 1")
    thousands, dropped = tokens / 1000, (1 - deployment.keep) * tokens / 1000
    ms_spent = deployment.fixed_ms + deployment.ms_per_1k * thousands
    cost = ms_spent * deployment.machine_per_hour / _MS_PER_HOUR
    return BreakEven(
        cost=cost,
        saved=dropped * deployment.price_per_million / 1000,
        ms_spent=ms_spent,
        ms_saved=dropped * deployment.next_ms_per_1k,
        price_from=1000 * cost / dropped,
        next_ms_from=ms_spent / dropped,
    )


_MS_PER_HOUR = 3_600_000


@dataclass(frozen=True, slots=True)
class Deployment:
    """Speeds and prices of one deployment.

    Attributes:
        ms_per_1k: milliseconds tamis takes for 1,000 tokens of context (`tamis lab bench speed`).
        machine_per_hour: price of an hour of the machine that tamis runs on.
        keep: share of the tokens that is kept, from 0 to below 1.
        price_per_million: price of a million input tokens at the next model, in the same currency.
        next_ms_per_1k: milliseconds the next model takes to read 1,000 tokens of prompt.
        fixed_ms: milliseconds tamis takes for a request of any length.
    """

    ms_per_1k: float
    machine_per_hour: float
    keep: float
    price_per_million: float
    next_ms_per_1k: float
    fixed_ms: float = 0.0

    def __post_init__(self) -> None:
        for name in (
            "ms_per_1k",
            "machine_per_hour",
            "price_per_million",
            "next_ms_per_1k",
            "fixed_ms",
        ):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise BadInput(f"{name} is {value}; give a number of at least 0")
        if not 0 <= self.keep < 1:
            raise BadInput(
                f"keep is {self.keep}; give a share from 0 to below 1: what is kept whole saves "
                "nothing"
            )


@dataclass(frozen=True, slots=True)
class BreakEven:
    """What compression of one request costs and saves.

    Attributes:
        cost, saved: money a request: for the machine, and for input tokens at the next model.
        ms_spent, ms_saved: milliseconds a request: in tamis, and at the next model.
        price_from: the smallest price of a million tokens at which compression saves money.
        next_ms_from: the fewest milliseconds of the next model for 1,000 tokens at which
            compression saves time.
    """

    cost: float
    saved: float
    ms_spent: float
    ms_saved: float
    price_from: float
    next_ms_from: float

    @property
    def cheaper(self) -> bool:
        """Whether compression saves money."""
        return self.saved > self.cost

    @property
    def faster(self) -> bool:
        """Whether compression saves time."""
        return self.ms_saved > self.ms_spent


def table(readings: dict[str, float], keeps: tuple[float, ...], machine_per_hour: float) -> str:
    """A Markdown table of the prices and times of the next model from which compression pays.

    Args:
        readings: milliseconds for 1,000 tokens, by the label of the row.
    """
    lines = ["| | kept | price of a million tokens from | next model, ms for 1,000 tokens from |"]
    lines += ["| --- | ---: | ---: | ---: |"]
    for name, ms in readings.items():
        for keep in keeps:
            verdict = costs_and_savings(1000, Deployment(ms, machine_per_hour, keep, 0, 0))
            lines.append(
                f"| {name} | {keep:.0%} | {verdict.price_from:.4f} | {verdict.next_ms_from:,.0f} |"
            )
    return "\n".join(lines) + "\n"
