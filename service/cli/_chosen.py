"""What the options of `tamis compress` and `tamis batch` add up to: a budget, and rules."""

from __future__ import annotations

from collections.abc import Sequence

from tamis.compressors._types import Budget, Rules
from tamis.probes.errors import BadInput
from tamis.service.cli._options import MAX_TOKENS, Granularity, Order, Unanswerable


def budget_of(
    max_tokens: int | None, ratio: float | None, threshold: float | None, coverage: float | None
) -> Budget:
    """The one budget that was given; `MAX_TOKENS` tokens if none was."""
    words = ("--max-tokens", "--ratio", "--threshold", "--coverage")
    values = (max_tokens, ratio, threshold, coverage)
    given = [word for word, value in zip(words, values, strict=True) if value is not None]
    if len(given) > 1:
        raise BadInput(f"{' and '.join(given)} cannot be met together; give one of them")
    return Budget(max_tokens if given else MAX_TOKENS, ratio, threshold, coverage)


def rules_of(
    *,
    protect: Sequence[str] | None,
    context_window: int,
    dedup: float | None,
    order: Order,
    separator: str,
    elision: str | None,
    citations: str | None,
    titles: bool,
    top_n: int | None,
    keep_tags: bool,
    answerable_floor: float,
    if_unanswerable: Unanswerable,
    granularity: Granularity,
) -> Rules:
    r"""The rules; `\n` and `\t` in a separator are what a shell cannot easily say."""
    return Rules(
        tuple(protect or ()),
        context_window,
        dedup,
        order.value,
        separator.replace("\\n", "\n").replace("\\t", "\t"),
        elision,
        citations,
        titles,
        top_n,
        keep_tags,
        answerable_floor,
        if_unanswerable.value,
        granularity.value,
    )
