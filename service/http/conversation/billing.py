"""What a prompt costs with a provider that keeps the beginnings of prompts, and when to change one.

A beginning that was sent before is read from the provider's cache, for a tenth of the price or so;
all behind the first difference is written there anew.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from itertools import accumulate
from typing import Any

from tamis.probes.errors import BadInput

_FLAGS = ("--price", "--cached", "--cache-write", "--machine-hour", "--cache-least")
MESSAGE_TOKENS = 4
"""What marks a message beside its text, in the prompts of most models."""
_NOT_READ = frozenset(
    "role type id tool_call_id tool_use_id call_id cache_control signature encrypted_content "
    "image_url source inline_data inlineData input_audio file file_data".split()
)
"""Fields of messages that are no text of the prompt. Images and files are not counted."""
_ARGUMENTS = ("input", "arguments", "args")


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices of a million tokens of input, and of a machine's hour.

    Attributes:
        cached: of tokens that the provider reads from its cache.
        write: of tokens that it writes there: the new ones of conversations.
        least: tokens of the shortest beginning of a prompt that it keeps.

    Raises:
        BadInput: a price that cannot be one.
    """

    price: float
    cached: float
    write: float
    machine_hour: float = 0.0
    least: int = 1024

    def __post_init__(self) -> None:
        for flag, value in zip(_FLAGS, astuple(self), strict=True):
            if not (math.isfinite(value) and value >= 0):
                raise BadInput(f"{flag} is {value:g}; give 0 or more")
        if not self.price:
            raise BadInput("--price is 0, so nothing can be saved; give that of a million tokens")
        if self.cached > min(self.price, self.write):
            raise BadInput(
                f"--cached is {self.cached:g}, --price {self.price:g} and --cache-write "
                f"{self.write:g}: tokens from the cache cost the least; exchange them"
            )

    def bill(self, cached: float, new: float) -> float:
        """What a prompt costs.

        Args:
            cached: tokens of its beginning that was sent before. new: tokens of the rest.
        """
        if cached < self.least:
            cached, new = 0, cached + new
        return (cached * self.cached + new * self.write) / 1e6


LIST_PRICES = Prices(1.0, 0.1, 1.25)
"""Where nobody gives prices: what the large providers charge for their caches, in proportion."""


def cheapest_change(
    sent: Sequence[int], new: Sequence[int], cached: int, prices: Prices, more: float
) -> int:
    """From which message on a prompt is sent in a new form: `cached` where no change pays.

    What a change of the cached beginning costs in this request is set against what is saved in it
    and in those that follow, which read fewer tokens from the cache.

    Args:
        sent: tokens of each message as it was sent before; those from `cached` on do not count.
        new: tokens of each in its new form.
        cached: how many of the first messages the provider's cache has.
        more: requests of the conversation that are expected to follow.
    """
    before = [0, *accumulate(sent[:cached])]
    behind = [*accumulate(reversed(new), initial=0)][::-1]

    def cost(start: int) -> float:
        left = before[start] + behind[start]
        return prices.bill(before[start], behind[start]) + more * prices.bill(left, 0)

    starts = [i for i in range(cached) if sent[i] != new[i]]
    return min([cached, *starts], key=cost)


def texts_in(value: Any) -> Iterator[str]:
    """The texts of a message that its model reads."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for one in value:
            yield from texts_in(one)
    elif isinstance(value, dict):
        for name, inner in value.items():
            if name in _ARGUMENTS and not isinstance(inner, str):
                yield json.dumps(inner, ensure_ascii=False)
            elif name not in _NOT_READ:
                yield from texts_in(inner)
