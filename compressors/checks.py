"""What callers may say of a budget and of rules, before anything is done for them."""

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
    """A limit, a floor, or one of each, and numbers that they can be.

    Raises:
        BadInput: anything else, with what was given.
    """
    given = [name for name in BUDGETS if getattr(budget, name) is not None]
    if not given:
        raise BadInput(f"no budget is given; {ONE_OF_EACH}")
    check_together(given)
    for name in given:
        _check_number(name, getattr(budget, name))


def check_together(given: Sequence[str], spelt: Callable[[str], str] = str) -> None:
    """At most one limit and one floor.

    Args:
        given: names of budgets. spelt: how the caller's user writes such a name.

    Raises:
        BadInput: two of a kind, with both.
    """
    for names in (LIMITS, FLOORS):
        if len(two := [name for name in given if name in names]) > 1:
            told = " and ".join(map(spelt, two))
            raise BadInput(f"{told} cannot be met together; {ONE_OF_EACH}")


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


def check_rules(rules: Any) -> None:
    """Texts where texts are meant and whole numbers where those are; `select` bounds the numbers.

    Raises:
        BadInput: something else, by its name.
    """
    if isinstance(rules.protect, str) or not all(isinstance(p, str) for p in rules.protect):
        raise BadInput(f"protect is {rules.protect!r}; give a tuple of regular expressions")
    if not isinstance(rules.separator, str):
        raise BadInput(f"separator is {rules.separator!r}; give a text, maybe an empty one")
    for name in ("elision", "citations"):
        if not isinstance(getattr(rules, name), str | None):
            raise BadInput(f"{name} is {getattr(rules, name)!r}; give a text, or None")
    for name in ("context_window", "top_n"):
        if (given := getattr(rules, name)) is not None and not is_whole(given):
            raise BadInput(f"{name} is {given!r}; give a whole number")


def is_number(given: Any) -> bool:
    """A number; true and false are none."""
    return isinstance(given, Real) and not isinstance(given, bool)


def is_whole(given: Any) -> bool:
    """A whole number; true and false are none."""
    return isinstance(given, Integral) and not isinstance(given, bool)
