"""Code with the line that introduces it, and nothing worthless."""

from __future__ import annotations

from tamis.compressors.rules import Budget, Rules
from tamis.compressors.selection.select import select
from tamis.text.types import Passage
from tamis.text.units.segment import units_of
from tests.compressors.selection.select_kit import words

PAGE = """The middleware compresses answers. It is added like this:

```python
app.add(GZip)
```

Smaller answers are left as they are.

Cheese is ripe.
"""
PASSAGE = Passage(PAGE)
UNITS = units_of([PASSAGE], "en")
SHOWN = [PAGE[slice(*unit.visible)] for unit in UNITS]


def kept(best: str, max_tokens: int) -> list[str]:
    """What is kept where the unit that begins with this text is the best by far."""
    values = [0.9 if text.startswith(best) else 0.001 for text in SHOWN]
    got = select(
        [PASSAGE], UNITS, values, [0.0], Budget(max_tokens), Rules(), words(), calibrated=True
    )
    return [SHOWN[u] for u in got.units]


def test_code_comes_with_the_line_that_introduces_it_and_pays_for_it() -> None:
    code = SHOWN[2]
    assert code.startswith("```python")
    assert kept("```", 8) == ["It is added like this:", code]


def test_the_lead_in_of_a_kept_piece_is_not_paid_for_twice() -> None:
    values = [0.9 if i == 1 else 0.8 if i == 2 else 0.5 for i in range(len(SHOWN))]
    rules = Rules()
    got = select([PASSAGE], UNITS, values, [0.0], Budget(8), rules, words(), calibrated=True)
    assert got.units == (1, 2)


def test_nothing_worthless_fills_a_budget_and_the_best_is_kept_whatever_it_is_worth() -> None:
    values = [0.5, *[0.001] * (len(SHOWN) - 1)]
    arguments = ([PASSAGE], UNITS, values, [0.0], Budget(12))
    plain, filled = Rules(), Rules(fill=True)
    assert select(*arguments, plain, words(), calibrated=True).units == (0,)
    assert len(select(*arguments, filled, words(), calibrated=True).units) > 1
    assert len(select(*arguments, plain, words()).units) > 1  # no probabilities, no floor
    low = [0.002, 0.001, *[0.0] * (len(SHOWN) - 2)]
    got = select([PASSAGE], UNITS, low, [0.0], Budget(12), plain, words(), calibrated=True)
    assert got.units == (0,)


def test_a_threshold_takes_the_place_of_the_floor() -> None:
    values = [0.5, *[0.005] * (len(SHOWN) - 1)]
    budget = Budget(threshold=0.002)
    got = select([PASSAGE], UNITS, values, [0.0], budget, Rules(), words(), calibrated=True)
    assert len(got.units) == len(UNITS)


def test_the_floor_is_a_share_of_the_best_ones_worth() -> None:
    passages = [Passage("Dogs bark."), Passage("Cats eat six. Cows moo.")]
    units = units_of(passages, "en")

    def kept_of(best: float, *others: float) -> tuple[int, ...]:
        values, budget, rules = [best, *others], Budget(50), Rules()
        got = select(passages, units, values, [1.0, 0.0], budget, rules, words(), calibrated=True)
        return got.units

    assert kept_of(0.9, 0.0091, 0.0089) == (0, 1)
    assert kept_of(0.6, 0.0091, 0.0061) == (0, 1, 2)
    assert kept_of(0.1, 0.0051, 0.0049) == (0, 1)  # and never under WORTHLESS
