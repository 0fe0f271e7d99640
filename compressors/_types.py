"""What goes into a compression and what comes out of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tamis.probes.errors import BadInput
from tamis.probes.text import Passage, Unit

Order = Literal["original", "score", "edges"]


@dataclass(frozen=True, slots=True)
class Budget:
    """How much may be kept: exactly one of the three is set.

    Attributes:
        max_tokens: at most so many tokens of output, counted on the joined text.
        ratio: at most this share of the input's tokens, rounded down.
        threshold: every unit with at least this probability, however many tokens that is.
    """

    max_tokens: int | None = None
    ratio: float | None = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        given = [
            name for name in ("max_tokens", "ratio", "threshold") if getattr(self, name) is not None
        ]
        if len(given) != 1:
            raise BadInput(
                f"give exactly one of max_tokens, ratio and threshold; got {given or 'none'}"
            )
        if self.max_tokens is not None and (
            isinstance(self.max_tokens, bool) or self.max_tokens < 1
        ):
            raise BadInput(f"max_tokens is {self.max_tokens}; give a whole number of at least 1")
        if self.ratio is not None and not 0 < self.ratio <= 1:
            raise BadInput(f"ratio is {self.ratio}; give the share to keep, above 0 and up to 1")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise BadInput(f"threshold is {self.threshold}; give a probability from 0 to 1")

    def tokens(self, tokens_in: int) -> int | None:
        """The most tokens that may be kept of `tokens_in`; None under a threshold."""
        if self.max_tokens is not None:
            return self.max_tokens
        # 0.1 * 30 is 3.0000000000000004: whole tokens, so a hair's breadth is forgiven
        return math.floor(self.ratio * tokens_in + 1e-9) if self.ratio is not None else None


@dataclass(frozen=True, slots=True)
class Rules:
    """How units are chosen and shown, scores and budget aside.

    Attributes:
        protect: regular expressions; a unit with a match is kept, whatever its score.
        context_window: also keep so many neighbours on both sides of a kept unit, if they fit.
        dedup: drop a unit whose words overlap a better one's by at least this Jaccard share; None
            for never.
        order: of the passages in the output: as given, best first, or best at both ends.
        separator: between passages.
        elision: shown where text was left out inside a passage; None for nothing.
        citations: shown before each passage's text: `{doc}` is its 1-based place, `{id}` its id,
            `{unit}` the first kept unit's 1-based place; None for nothing.
        titles: show each passage's title on a line before its text.
        top_n: keep text of at most so many passages, the best by their best unit.
    """

    protect: tuple[str, ...] = ()
    context_window: int = 0
    dedup: float | None = None
    order: Order = "original"
    separator: str = "\n\n"
    elision: str | None = None
    citations: str | None = None
    titles: bool = False
    top_n: int | None = None


@dataclass(frozen=True, slots=True)
class Scores:
    """How much each unit answers the question.

    Attributes:
        values: one a unit, higher is better. Probabilities where `calibrated`.
        passages: one a passage, for ranking.
        calibrated: whether values are probabilities and a threshold means something.
    """

    values: tuple[float, ...]
    passages: tuple[float, ...]
    calibrated: bool = False
    windows: int = 0
    tokens_read: int = 0
    timings_ms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Kept:
    """One unit that was kept: `passages[passage].text[start:stop]` is its text, verbatim."""

    passage: int
    start: int
    stop: int
    score: float
    unit: int


@dataclass(frozen=True, slots=True)
class Selection:
    """Which units stay and the text they make."""

    units: tuple[int, ...]
    text: str
    tokens: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Compressed:
    """The short prompt, where every part of it came from, and what it cost.

    Attributes:
        text: the kept units, verbatim, joined.
        kept: the units, in the order of the input.
        passages: the input; `units`, `scores` and `passage_scores` go with it.
        tokens_in: tokens of the whole context, rendered the same way. tokens_out: of `text`.
        tokenizer: the name of the tokenizer that counted both.
        status: `passthrough` when the whole context fitted and no model was asked.
        windows, tokens_read: how the proxy read the input; nothing is cut off.
    """

    text: str
    kept: tuple[Kept, ...]
    passages: tuple[Passage, ...]
    units: tuple[Unit, ...]
    scores: tuple[float, ...]
    passage_scores: tuple[float, ...]
    tokens_in: int
    tokens_out: int
    tokenizer: str
    method: str
    status: Literal["ok", "passthrough"]
    windows: int = 0
    tokens_read: int = 0
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def ratio(self) -> float:
        """Tokens out per token in."""
        return self.tokens_out / self.tokens_in if self.tokens_in else 1.0

    def spans(self, passage: int) -> list[tuple[int, int]]:
        """Kept spans of one passage, in order; units that touch are joined."""
        joined: list[tuple[int, int]] = []
        ends: list[int] = []
        for kept in self.kept:
            if kept.passage != passage:
                continue
            unit = self.units[kept.unit]
            if joined and ends[-1] == unit.start:
                joined[-1] = (joined[-1][0], kept.stop)
                ends[-1] = unit.stop
            else:
                joined.append((kept.start, kept.stop))
                ends.append(unit.stop)
        return joined
