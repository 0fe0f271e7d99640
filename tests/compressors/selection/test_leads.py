"""Code with the line that introduces it, a value with its name, and nothing worthless."""

from __future__ import annotations

from tamis.compressors.rules import Budget, Rules
from tamis.compressors.selection.groups import Groups
from tamis.compressors.selection.select import select
from tamis.compressors.types import SelectedUnits
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


def select_beside(best: float, *others: float, max_tokens: int) -> SelectedUnits:
    """From two passages: of two words the best, of nine another, and of one the last."""
    passages = [Passage("Dogs bark."), Passage("Cats eat one two three four five six seven. Cows.")]
    units, values = units_of(passages, "en"), [best, *others]
    budget = Budget(max_tokens)
    return select(passages, units, values, [1.0, 0.0], budget, Rules(), words(), calibrated=True)


def kept_beside(best: float, *others: float, max_tokens: int) -> tuple[int, ...]:
    return select_beside(best, *others, max_tokens=max_tokens).units


def test_what_did_not_fit_gives_its_place_to_nothing_worth_under_a_twentieth_of_it() -> None:
    assert kept_beside(0.9, 0.8, 0.041, max_tokens=5) == (0, 2)
    assert kept_beside(0.9, 0.8, 0.039, max_tokens=5) == (0,)
    assert kept_beside(0.9, 0.8, 0.039, max_tokens=50) == (0, 1, 2)  # all fit


def test_what_is_half_as_good_as_the_best_and_has_no_room_is_told_with_the_room_it_takes() -> None:
    (warning,) = select_beside(0.9, 0.81, 0.1, max_tokens=5).warnings
    assert warning == (
        "a sentence 90% as good as the best was left out for room, the budget is 5; 12 tokens "
        "would hold it"
    )
    assert not select_beside(0.9, 0.81, 0.1, max_tokens=12).warnings
    assert len(select_beside(0.9, 0.46, 0.1, max_tokens=5).warnings) == 1
    assert not select_beside(0.9, 0.44, 0.1, max_tokens=5).warnings


def test_the_floor_is_a_share_of_the_best_ones_worth() -> None:
    assert kept_beside(0.9, 0.0091, 0.0089, max_tokens=50) == (0, 1)
    assert kept_beside(0.6, 0.0091, 0.0061, max_tokens=50) == (0, 1, 2)
    assert kept_beside(0.1, 0.0051, 0.0049, max_tokens=50) == (0, 1)  # and never under WORTHLESS
    # of a clear best in a single passage a tenth
    for best in (0.9, 0.5):
        for share, few in ((0.105, 2), (0.095, 1)):
            passages, values = [Passage("Dogs bark.\n\nCats purr.")], [best, share * best]
            units, budget = units_of(passages, "en"), Budget(50)
            got = select(passages, units, values, [0.0], budget, Rules(), words(), calibrated=True)
            assert len(got.units) == few, (best, share)


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
