"""`POST /v1/explain`: a compression with every sentence, kept or not.

The answer suffices to select again under another budget without another request. With `selections`
it says what the service itself would keep under many budgets. Else sort units by score and take
them while their tokens, plus `separator_tokens` for each further document, fit; the service counts
the joined text instead, which is exact.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from pydantic import Field

from tamis.compressors.pipeline.compression import Prepared
from tamis.compressors.rules import PLAIN_ORDERS
from tamis.compressors.selection.select import Selector
from tamis.compressors.types import Compressed
from tamis.probes.errors import BadInput, BudgetTooSmall
from tamis.probes.tokens import TextTokenizer
from tamis.service.http.schemas.base import Response, Text
from tamis.service.http.schemas.compress import Compression, CompressRequest

MAX_SELECTIONS = 256


class ExplainRequest(CompressRequest):
    """As for `/v1/compress`, and for how many budgets the answer says what would be kept."""

    selections: Annotated[
        int,
        Field(
            ge=0,
            le=MAX_SELECTIONS,
            description="Say what would be kept under about so many budgets, from the shortest "
            "sentence to the whole context. Code is cut as the request's own budget cuts it; a "
            "budget shorter than a block of code cuts it finer.",
        ),
    ] = 0

    def check_selections(self) -> None:
        """Refuses what selections under budgets in tokens cannot follow.

        Raises:
            BadInput: a budget that the scores set, or an order that another method makes.
        """
        if not self.selections:
            return
        if self.adaptive is not None or self.coverage is not None:
            raise BadInput("selections are under budgets in tokens; leave out adaptive or coverage")
        if (order := self.rules().order) not in PLAIN_ORDERS:
            raise BadInput(
                f"selections are in the orders {', '.join(PLAIN_ORDERS)}, and order is {order!r}; "
                "leave one of both out"
            )


class Selection(Response):
    """What a client needs beside the units to select by itself.

    Attributes:
        separator: the text between documents. separator_tokens: its number of tokens.
    """

    separator: Text
    separator_tokens: int
    budget_tokens: int | None
    threshold: float | None


class BudgetSelection(Response):
    """What `/v1/compress` keeps under one budget, as a change to the budget before it.

    `added` and `removed` are indexes of units; the first budget adds to nothing. `tokens` are those
    of the joined text.
    """

    max_tokens: int
    tokens: int
    added: list[int]
    removed: list[int]


class Explanation(Compression):
    """A compression with every unit, and the parameters to select again.

    `selections` go from the smallest budget to the whole context. Null where none were asked for,
    nothing was scored, or the context was found to hold no answer and a rule decided.
    """

    selection: Selection
    selections: list[BudgetSelection] | None = None


def build_explanation(
    compression: Compression,
    body: CompressRequest,
    counter: TextTokenizer,
    budget_tokens: int | None,
    selections: list[BudgetSelection] | None,
) -> Explanation:
    """The answer of `/v1/explain`."""
    separator = body.rules().separator
    selection = Selection(
        separator=separator,
        separator_tokens=counter.count(separator),
        budget_tokens=budget_tokens,
        threshold=body.threshold,
    )
    return Explanation(**dict(compression), selection=selection, selections=selections)


def budget_selections(
    result: Compressed, prepared: Prepared, calibrated: bool, count: int
) -> list[BudgetSelection] | None:
    """What would be kept under about `count` budgets, the request's own included, by the scores of
    a result."""
    if not count or not result.scores or result.status == "unanswerable":
        return None
    selector = Selector(
        result.passages,
        result.units,
        result.scores,
        result.passage_scores,
        prepared.rules,
        prepared.counter,
        calibrated=calibrated,
    )
    kept, found = set[int](), list[BudgetSelection]()
    whole = prepared.whole.tokens
    own = {min(whole, prepared.budget.tokens(whole) or whole)} if count > 1 else set[int]()
    for most in sorted({*budget_stops(whole, count), *own}):
        budget = replace(prepared.budget, max_tokens=most, ratio=None)
        try:
            tokens, units = prepared.whole.tokens, set(range(len(result.units)))
            if not prepared.with_budget(budget).fits:
                selected = selector.select(budget)
                tokens, units = selected.tokens, set(selected.units)
        except BudgetTooSmall:
            continue
        changes = {"added": sorted(units - kept), "removed": sorted(kept - units)}
        found.append(BudgetSelection(max_tokens=most, tokens=tokens, **changes))
        kept = units
    return found


def budget_stops(most: int, count: int) -> list[int]:
    """At most `count` budgets up to `most`, the last: all, or round ones of even ratio.

    A round budget has two digits and zeros.
    """
    if most <= count:
        return list(range(1, most + 1))
    if count == 1:
        return [most]
    growth = most ** (1 / (count - 1))
    return sorted({*(_round_to_two_digits(growth**i) for i in range(count - 1)), most})


def _round_to_two_digits(value: float) -> int:
    whole = round(value)
    return round(whole, 2 - len(str(whole)))
