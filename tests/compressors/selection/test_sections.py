"""Headings and table headers: with what they head, or last."""

from __future__ import annotations

import random

from tamis.compressors.rules import Budget, Rules
from tamis.compressors.selection.groups import Groups
from tamis.compressors.selection.select import select
from tamis.text.types import Passage, Unit
from tamis.text.units.segment import units_of
from tests.compressors.selection.select_kit import words

PAGE = """# Cats

Cats purr all night long. They sleep.

# Dogs

## Small ones

Dogs bark at any moon.

| Name | Age |
|---|---|
| Rex | nine |
"""
PASSAGE = Passage(PAGE)
UNITS = units_of([PASSAGE], "en")
SHOWN = [PAGE[slice(*unit.visible)] for unit in UNITS]


def place(text: str) -> int:
    """The index of the unit that begins with this text."""
    return next(u for u, shown in enumerate(SHOWN) if shown.startswith(text))


def kept(values: dict[str, float], fill: bool = False, **budget: float) -> list[str]:
    """The kept units where those that begin with these texts have these values, others nearly 0."""
    scores = [0.001 * u for u in range(len(UNITS), 0, -1)]
    for text, value in values.items():
        scores[place(text)] = value
    got = select([PASSAGE], UNITS, scores, [0.0], Budget(**budget), Rules(fill=fill), words())
    return [SHOWN[u] for u in got.units]


def has_no_content(texts: list[str], units: list[Unit], kept_units: set[int], u: int) -> bool:
    """The slow way: walk down from a lead to the end of its table or section."""
    for below in range(u + 1, len(units)):
        kind = units[below].kind
        if units[below].passage != units[u].passage:
            return True
        if units[u].kind == "table_header" and kind != "table_row":
            return True
        if kind == "heading" and texts[below].count("#") <= texts[u].count("#"):
            return True
        if below in kept_units and kind not in ("heading", "table_header"):
            return False
    return True


def test_headings_without_content_are_those_found_by_walking_down() -> None:
    draw = random.Random(0)
    parts = {"# A": "heading", "## B": "heading", "### C": "heading", "Text.": "sentence"}
    parts |= {"| h |": "table_header", "| r |": "table_row"}
    for _ in range(3000):
        passages, units, texts = [], [], []
        for p in range(draw.randrange(1, 4)):
            drawn = draw.choices(list(parts), k=draw.randrange(7))
            at = 0
            for text in drawn:
                stop = at + len(text)
                units.append(Unit(p, at, stop + 1, (at, stop), parts[text]))
                at = stop + 1
            texts += drawn
            passages.append(Passage("".join(f"{text}\n" for text in drawn)))
        kept_units = {u for u in range(len(units)) if draw.random() < 0.5}
        heads = {u for u in range(len(units)) if units[u].kind in ("heading", "table_header")}
        slow = {u for u in heads if has_no_content(texts, units, kept_units, u)}
        groups = Groups(units, passages)
        content = [u for u in kept_units if u not in groups]
        above = {lead for u in content for lead in groups.ancestors(u)}
        assert set(groups.stops) == heads
        assert heads - above == slow


def test_a_heading_without_content_gives_its_room_to_text() -> None:
    values = {"Cats purr": 0.9, "# Dogs": 0.8, "## Small": 0.7, "They sleep": 0.75}
    assert kept(values, max_tokens=9) == ["# Cats", "Cats purr all night long.", "They sleep."][1:]
    assert kept(values, max_tokens=7) == ["Cats purr all night long.", "They sleep."]


def test_headings_with_text_below_stay() -> None:
    values = {"Dogs bark": 0.9, "# Dogs": 0.8, "## Small": 0.7, "They sleep": 0.1}
    assert kept(values, max_tokens=10) == ["# Dogs", "## Small ones", "Dogs bark at any moon."]


def test_a_table_header_comes_with_its_row_or_not_at_all() -> None:
    header, row = "| Name | Age |\n|---|---|", "| Rex | nine |"
    assert kept({"| Rex": 0.9}, max_tokens=11) == [header, row]
    without = kept({"| Rex": 0.9}, max_tokens=7)
    assert row in without
    assert header not in without
    # it alone is the best: for its row, or for nothing
    assert kept({"| Name": 0.9, "Cats purr": 0.5}, max_tokens=16)[-2:] == [header, row]
    assert header not in kept({"| Name": 0.9, "Cats purr": 0.95}, max_tokens=12)


def test_a_heading_is_not_kept_alone_though_it_is_the_best_and_a_mandatory_one_is() -> None:
    values = {"# Dogs": 0.9, "Cats purr": 0.8}
    for limit in range(2, 40):
        kept_texts = kept(values, max_tokens=limit)
        assert kept_texts, limit
        below = {"## Small ones", "Dogs bark at any moon.", "| Rex | nine |"}
        assert "# Dogs" not in kept_texts or below & {*kept_texts}, limit
    passage = Passage(PAGE, keep=((PAGE.index("# Dogs"), PAGE.index("# Dogs") + 1),))
    scores = [0.9 if text.startswith("Cats purr") else 0.1 for text in SHOWN]
    got = select([passage], UNITS, scores, [0.0], Budget(max_tokens=8), Rules(), words())
    assert place("# Dogs") in got.units


def test_a_heading_without_text_fills_a_budget_only_where_that_is_asked_for() -> None:
    values = {"Cats purr": 0.9, "# Dogs": 0.8, "They sleep": 0.7}
    text = ["Cats purr all night long.", "They sleep."]
    assert kept(values, max_tokens=9) == text
    assert kept(values, fill=True, max_tokens=9) == [*text, "# Dogs"]


def test_a_neighbour_is_no_heading_of_another_section_and_a_row_comes_with_its_header() -> None:
    def around(best: str, max_tokens: int, rules: Rules) -> list[str]:
        scores = [0.9 if text.startswith(best) else 0.0001 for text in SHOWN]
        budget = Budget(max_tokens)
        got = select([PASSAGE], UNITS, scores, [0.0], budget, rules, words(), calibrated=True)
        return [SHOWN[u] for u in got.units]

    window = Rules(context_window=1, dedup=None)
    assert around("They sleep", 99, window) == ["Cats purr all night long.", "They sleep."]
    wide = Rules(context_window=2)
    assert around("Dogs bark", 21, wide)[-2:] == ["| Name | Age |\n|---|---|", "| Rex | nine |"]


def test_least_tokens_of_a_passage_are_not_met_by_a_heading_alone() -> None:
    passages = [Passage("Birds sing."), Passage("# Dogs\n\nDogs bark.", min_tokens=2)]
    units, budget = units_of(passages, "en"), Budget(max_tokens=2)
    got = select(passages, units, [0.5, 0.9, 0.1], [0.0, 0.0], budget, Rules(), words())
    assert got.units == (2,)


def test_under_a_threshold_a_heading_is_kept_for_what_is_below_it() -> None:
    values = {"# Dogs": 0.9, "They sleep": 0.8}
    assert kept(values, threshold=0.5) == ["They sleep."]
    assert kept({**values, "Dogs bark": 0.6}, threshold=0.5) == [
        "They sleep.",
        "# Dogs",
        "Dogs bark at any moon.",
    ]
    assert kept({"# Dogs": 0.9}, threshold=0.5) == ["# Dogs"], "nothing else reaches it"
