"""When does compression pay? What it costs here against what it saves at the next model.

    cost    C · c        C thousands of tokens in, c what tamis takes for a thousand
    saving  C · (1-k) · s    k the share that is kept, s what the next model takes for a thousand

Both are linear in the tokens, so the length cancels: it pays where `c < (1 - k) · s`, once for
money and once for time. The least price and the slowest speed of the next model follow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tamis.probes.errors import BadInput

_MS_PER_HOUR = 3_600_000


@dataclass(frozen=True, slots=True)
class Setting:
    """One deployment, in figures of your own.

    Attributes:
        ms_per_1k: milliseconds tamis takes for 1,000 tokens of context (`tamis bench speed`).
        machine_per_hour: what the machine costs that tamis runs on, in money.
        keep: share of the tokens that is kept, from 0 to 1.
        price_per_million: of input tokens at the next model, in the same money.
        next_ms_per_1k: milliseconds the next model takes to read 1,000 tokens of prompt.
        fixed_ms: what tamis takes for a request whatever its length.
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
class Verdict:
    """What compression of one request costs and saves.

    Attributes:
        cost, saved: money a request: the machine, and input tokens at the next model.
        ms_spent, ms_saved: milliseconds a request: here, and at the next model.
        price_from: the least price of a million tokens at which it pays, in money.
        next_ms_from: the least milliseconds for 1,000 tokens, at the next model, at which the whole
            is faster.
    """

    cost: float
    saved: float
    ms_spent: float
    ms_saved: float
    price_from: float
    next_ms_from: float

    @property
    def cheaper(self) -> bool:
        """Whether it saves money."""
        return self.saved > self.cost

    @property
    def faster(self) -> bool:
        """Whether the answer comes sooner."""
        return self.ms_saved > self.ms_spent


def break_even(tokens: int, setting: Setting) -> Verdict:
    """What compressing a context of so many tokens costs and saves.

    Raises:
        BadInput: fewer than 1 token.
    """
    if tokens < 1:
        raise BadInput(f"tokens is {tokens}; give at least 1")
    thousands, dropped = tokens / 1000, (1 - setting.keep) * tokens / 1000
    spent = setting.fixed_ms + setting.ms_per_1k * thousands
    cost = spent * setting.machine_per_hour / _MS_PER_HOUR
    return Verdict(
        cost=cost,
        saved=dropped * setting.price_per_million / 1000,
        ms_spent=spent,
        ms_saved=dropped * setting.next_ms_per_1k,
        price_from=1000 * cost / dropped,
        next_ms_from=spent / dropped,
    )


def table(readings: dict[str, float], keeps: tuple[float, ...], machine_per_hour: float) -> str:
    """Markdown: from which price and slowness of the next model on each reading pays.

    Args:
        readings: milliseconds for 1,000 tokens, by what they are of.
    """
    lines = ["| | kept | price of a million tokens from | next model, ms for 1,000 tokens from |"]
    lines += ["| --- | ---: | ---: | ---: |"]
    for name, ms in readings.items():
        for keep in keeps:
            found = break_even(1000, Setting(ms, machine_per_hour, keep, 0, 0))
            lines.append(
                f"| {name} | {keep:.0%} | {found.price_from:.4f} | {found.next_ms_from:,.0f} |"
            )
    return "\n".join(lines) + "\n"
