"""What the options of `tamis compress` and `tamis batch` add up to: a budget, and rules."""

from __future__ import annotations

import typer

from tamis.compressors.checks import BUDGETS, check_together
from tamis.compressors.types import Budget, Rules
from tamis.service.cli.options.options import MAX_TOKENS, Granularity, Order, Unanswerable


def budget_of(
    max_tokens: int | None, ratio: float | None, threshold: float | None, coverage: float | None
) -> Budget:
    """The limit and the floor that were given; `MAX_TOKENS` tokens if none was."""
    values = zip(BUDGETS, (max_tokens, ratio, threshold, coverage), strict=True)
    given = [name for name, value in values if value is not None]
    check_together(given, lambda name: f"--{name.replace('_', '-')}")
    return Budget(max_tokens if given else MAX_TOKENS, ratio, threshold, coverage)


def rules_of(
    *,
    protect: tuple[str, ...],
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
    if if_unanswerable is not Unanswerable.best_effort and answerable_floor == 0:
        typer.echo(
            f"tamis: --if-unanswerable {if_unanswerable.value} does nothing at a floor of 0; give "
            "one with it, such as --answerable-floor 0.3",
            err=True,
        )
    return Rules(
        protect,
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
