"""Checks of budgets and numbers, made before anything is done for a request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any

from tamis.probes.errors import BadInput

LIMITS, FLOORS = ("max_tokens", "ratio"), ("threshold", "coverage")
BUDGETS = LIMITS + FLOORS
ONE_OF_EACH = (
    "give one of max_tokens and ratio, one of threshold and coverage, or one of each: "
    "a limit and a floor"
)


def check_budget(budget: Any) -> None:
    """Accepts a limit, a floor, or one of each, with numbers in range.

    Raises:
        BadInput: anything else; the message says what was given.
    """
    given = [name for name in BUDGETS if getattr(budget, name) is not None]
    if not given:
        raise BadInput(f"no budget is given; {ONE_OF_EACH}")
    check_together(given)
    for name in given:
        _check_number(name, getattr(budget, name))


def check_together(given: Sequence[str], display_name: Callable[[str], str] = str) -> None:
    """Accepts at most one limit and one floor.

    Args:
        given: names of the budgets that were given.
        display_name: turns such a name into what the user wrote, such as a CLI flag.

    Raises:
        BadInput: two limits or two floors; the message names both.
    """
    for kind in (LIMITS, FLOORS):
        if len(two := [name for name in given if name in kind]) > 1:
            names = " and ".join(map(display_name, two))
            raise BadInput(f"{names} cannot be met together; {ONE_OF_EACH}")


def _check_number(name: str, value: Any) -> None:
    if name == "max_tokens" and not (is_whole(value) and value >= 1):
        raise BadInput(f"max_tokens is {value!r}; give a whole number of at least 1")
    if name == "ratio" and not (is_number(value) and 0 < value <= 1):
        raise BadInput(f"ratio is {value!r}; give the share to keep, above 0 and up to 1")
    if name == "threshold" and not (is_number(value) and 0 <= value <= 1):
        raise BadInput(f"threshold is {value!r}; give a probability from 0 to 1")
    if name == "coverage" and not (is_number(value) and 0 < value < 1):
        raise BadInput(
            f"coverage is {value!r}; give a probability above 0 and below 1, such as 0.9"
        )


def is_number(given: Any) -> bool:
    """Whether a value is a number; true and false are not."""
    return isinstance(given, Real) and not isinstance(given, bool)


def is_whole(given: Any) -> bool:
    """Whether a value is a whole number; true and false are not."""
    return isinstance(given, Integral) and not isinstance(given, bool)
