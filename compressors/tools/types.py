"""What goes into the compression of tool outputs, and what comes out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tamis.text.readers.outputs.parts import PartUnit

RETRIEVE = "tamis run --retrieve"
"""What a marker names, with an id behind it; texts with it were shortened or given back already."""
_RETRIEVED = re.compile(rf"{RETRIEVE} [0-9a-f]{{24}}\b")
_GIVING_BACK = ("retrieve", "tamis_retrieve")
_ID = re.compile(r'"id"\s*:\s*"[0-9a-f]{24}"')
_OWN = "tamis run "


@dataclass(frozen=True, slots=True)
class ToolOutput:
    """What a tool returned.

    Attributes:
        text: verbatim; may be empty.
        name: the tool that was called. arguments: of the call, as JSON text.
        is_error: whether the call failed, as its protocol says; None where it says nothing.
    """

    text: str
    name: str | None = None
    arguments: str | None = None
    is_error: bool | None = None

    @property
    def call(self) -> str:
        """The call that made it, name and arguments; empty where neither is known."""
        return " ".join(part for part in (self.name, self.arguments) if part and part.strip())

    @property
    def is_settled(self) -> bool:
        """Whether tamis shortened it or gave it back, so that it is never shortened again."""
        tool = (self.name or "").rpartition("__")[2]
        gives_back = tool in _GIVING_BACK and bool(_ID.search(self.arguments or ""))
        return gives_back or _OWN in self.call or bool(_RETRIEVED.search(self.text))


@dataclass(frozen=True, slots=True)
class Omission:
    """What was left out between two kept spans.

    Attributes:
        start, stop: half-open code points of the source.
        unit: what `first` and `last` count: lines, array elements, object members, rows, entries;
            characters of a line or value that is cut.
        first, last: ordinals of the first and last that is left out, from 1, inclusive.
        tokens: that the omitted text has.
        content: what the omitted lines are where they are alike, such as `178 more PASSED`.
        scattered: how many values of a small JSON text are left out between `start` and `stop`,
            where one marker stands for all of them; 0 where everything between is.
    """

    start: int
    stop: int
    unit: PartUnit
    first: int
    last: int
    tokens: int
    content: str | None = None
    scattered: int = 0


Marker = Callable[[Omission], str]
"""Makes the text that is shown for an omission, on one line and without the line's end."""


@dataclass(frozen=True, slots=True)
class CompressedToolOutput:
    """A tool's output, shortened.

    Attributes:
        text: what is shown: kept spans verbatim, markers between.
        kept: half-open spans of the source in code points, ascending and disjoint.
        omissions: what was left out, in the same order.
        format: `pytest`, `json`, `diff`, `grep`, `listing`, `log`, `text`, ...
        tokens_in: of the source. tokens_out: of `text`, markers included.
    """

    text: str
    kept: tuple[tuple[int, int], ...]
    omissions: tuple[Omission, ...]
    format: str
    tokens_in: int
    tokens_out: int
    warnings: tuple[str, ...] = ()


def shows_source(found: CompressedToolOutput, source: str) -> bool:
    """Whether there is more in it than markers and brackets."""
    return any(
        character.isalnum() for start, stop in found.kept for character in source[start:stop]
    )


def is_json(text: str) -> bool:
    """Whether a text is JSON."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


MOST_TOKENS = 2000
"""What is kept of one result at most where nobody gives a budget, however long it is."""
SMALL_TOKENS = 200
"""Outputs up to this size are shown whole if all fit, and no larger one gets less."""


def share_budget(tokens: Sequence[int], max_tokens: int) -> list[int]:
    """A limit for each output; the limits' sum is at most `max_tokens`.

    Every output first gets its tokens up to `SMALL_TOKENS`, or an equal share of the budget where
    that is too much; what remains is divided in proportion to what is left of each.

    Args:
        tokens: of each output. max_tokens: of all together, at least 0.
    """
    limits = _equal_shares([min(count, SMALL_TOKENS) for count in tokens], max_tokens)
    rest = max_tokens - sum(limits)
    missing = [count - limit for count, limit in zip(tokens, limits, strict=True)]
    total = sum(missing)
    if total <= rest:
        return list(tokens)
    return [limit + rest * more // total for limit, more in zip(limits, missing, strict=True)]


def _equal_shares(wanted: Sequence[int], limit: int) -> list[int]:
    """What each wants, up to a height at which the sum is within the limit."""
    shares, left = [0] * len(wanted), max(0, limit)
    for place, i in enumerate(sorted(range(len(wanted)), key=wanted.__getitem__)):
        shares[i] = min(wanted[i], left // (len(wanted) - place))
        left -= shares[i]
    return shares
