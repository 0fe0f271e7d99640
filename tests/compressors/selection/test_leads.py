"""Code with the line that introduces it, a value with its name, and nothing worthless."""

from __future__ import annotations

from tamis.compressors.rules import Budget, Rules
from tamis.compressors.selection.groups import Groups
from tamis.compressors.selection.select import select
from tamis.probes.segmentation.segment import units_of
from tamis.probes.text import Passage
from tests.compressors.selection.select_kit import words

PAGE = """The middleware compresses answers. It is added like this:

```python
app.add(GZip)
```

minimum_size: smaller answers are left as they are.
Defaults to `500`.

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


def test_a_default_value_comes_with_the_unit_that_names_it() -> None:
    names = "minimum_size: smaller answers are left as they are."
    assert kept("Defaults", 11) == [names, "Defaults to `500`."]


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


def test_default_values_in_a_row_are_all_of_the_unit_before_the_first() -> None:
    text = (
        "- `timeout`: how long.\n- Default: `30`\n- Default: `60` on Windows\n- Default: `90` else"
    )
    passages = [Passage(text)]
    groups = Groups(units_of(passages), passages)
    assert groups.parents == [-1, 0, 0, 0]
