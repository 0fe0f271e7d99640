"""Divides a budget among the outputs of several tools."""

from __future__ import annotations

from collections.abc import Sequence

SMALL_TOKENS = 200
"""Outputs up to this size are shown whole if all fit, and no larger one gets less."""


def share_budget(
    tokens: Sequence[int], max_tokens: int, small_tokens: int = SMALL_TOKENS
) -> list[int]:
    """A limit for each output; the limits' sum is at most `max_tokens`.

    Every output first gets its tokens up to `small_tokens`, or an equal share of the budget where
    that is too much; what remains is divided in proportion to what is left of each.

    Args:
        tokens: of each output. max_tokens: of all together, at least 0.
    """
    limits = _equal_shares([min(count, small_tokens) for count in tokens], max_tokens)
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
