"""Headings and table headers: with what they head, or last."""

from __future__ import annotations

import random
import time

from tamis.compressors.rules import Budget, Rules
from tamis.compressors.selection.groups import Groups
from tamis.compressors.selection.select import select
from tamis.probes.segmentation.segment import units_of
from tamis.probes.text import Passage, Unit
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


def has_no_content(units: list[Unit], kept_units: set[int], u: int) -> bool:
    """The slow way: walk down from a heading until another section begins."""
    if units[u].kind == "table_header":
        below = u + 1
        while below < len(units) and units[below].kind == "table_row":
            if below in kept_units and units[below].passage == units[u].passage:
                return False
            below += 1
        return True
    text = False
    for below in range(u + 1, len(units)):
        if units[below].passage != units[u].passage:
            return True
        if units[below].kind == "heading":
            if text:
                return True
            continue
        text = True
        header = units[below].kind == "table_header"
        if below in kept_units and not (header and has_no_content(units, kept_units, below)):
            return False
    return True


def test_headings_without_content_are_those_found_by_walking_down() -> None:
    draw = random.Random(0)
    kinds = ["heading", "sentence", "table_header", "table_row"]
    for _ in range(3000):
        passages = sorted(draw.randrange(3) for _ in range(draw.randrange(9)))
        units = [Unit(p, i, i + 1, (i, i + 1), draw.choice(kinds)) for i, p in enumerate(passages)]
        kept_units = {u for u in range(len(units)) if draw.random() < 0.5}
        heads = {u for u in range(len(units)) if units[u].kind in ("heading", "table_header")}
        slow = {u for u in heads if has_no_content(units, kept_units, u)}
        groups = Groups(units)
        content = [u for u in kept_units if u not in groups]
        above = {lead for u in content for lead in groups.ancestors(u)}
        assert heads - above == slow


def test_a_heading_without_content_gives_its_room_to_text() -> None:
    values = {"Cats purr": 0.9, "# Dogs": 0.8, "## Small": 0.7, "They sleep": 0.1}
    assert kept(values, max_tokens=8) == ["Cats purr all night long.", "They sleep."]


def test_headings_with_text_below_stay() -> None:
    values = {"Dogs bark": 0.9, "# Dogs": 0.8, "## Small": 0.7, "They sleep": 0.1}
    assert kept(values, max_tokens=10) == ["# Dogs", "## Small ones", "Dogs bark at any moon."]


def test_a_table_header_comes_with_its_row_or_not_at_all() -> None:
    values = {"Cats purr": 0.9, "| Name": 0.8, "They sleep": 0.1, "Dogs bark": 0.05}
    assert kept(values, max_tokens=12) == [
        "Cats purr all night long.",
        "They sleep.",
        "Dogs bark at any moon.",
    ]
    assert kept(values, max_tokens=16)[-2:] == ["| Name | Age |\n|---|---|", "| Rex | nine |"]


def test_a_heading_is_not_kept_alone_though_it_is_the_best_and_a_mandatory_one_is() -> None:
    values = {"# Dogs": 0.9, "Cats purr": 0.8}
    assert kept(values, max_tokens=7) == ["Cats purr all night long.", "They sleep."]
    assert kept({"# Dogs": 0.9}, max_tokens=7) == ["# Dogs", "Dogs bark at any moon."]
    passage = Passage(PAGE, keep=((PAGE.index("# Dogs"), PAGE.index("# Dogs") + 1),))
    values = [0.9 if text.startswith("Cats purr") else 0.1 for text in SHOWN]
    got = select([passage], UNITS, values, [0.0], Budget(max_tokens=8), Rules(), words())
    assert place("# Dogs") in got.units


def test_a_heading_without_text_fills_a_budget_only_where_that_is_asked_for() -> None:
    values = {"Cats purr": 0.9, "# Dogs": 0.8, "They sleep": 0.7}
    text = ["# Cats", "Cats purr all night long.", "They sleep."]
    assert kept(values, max_tokens=11) == text
    assert kept(values, fill=True, max_tokens=11) == [*text, "# Dogs"]


def test_under_a_threshold_headings_are_treated_like_other_units() -> None:
    values = {"# Dogs": 0.9, "They sleep": 0.8}
    assert kept(values, threshold=0.5) == ["They sleep.", "# Dogs"]


SETTINGS = """[server]
workers = 9
timeout = 45

[mail]
host = relay.int
timeout = 12
retries = 3
"""
MANIFEST = """api:
  image: shop/api
  memory: 512Mi
shipper:
  image: shop/shipper
  memory: 64Mi
  priority: low
"""


def kept_lines(text: str, values: dict[str, float], max_tokens: int) -> list[str]:
    """The kept lines where each is a unit; those with these beginnings have these values."""
    starts = [at for at in range(len(text)) if at == 0 or text[at - 1] == "\n"]
    ends = [*starts[1:], len(text)]
    spans = [(start, end) for start, end in zip(starts, ends, strict=True) if text[start] != "\n"]
    units = [
        Unit(
            0, start, end, (start + len(row) - len(row.lstrip()), start + len(row.rstrip())), "code"
        )
        for start, end in spans
        for row in [text[start:end]]
    ]
    shown = [text[slice(*unit.visible)] for unit in units]
    scores = [values.get(f"{u}", 0.001) for u in range(len(units))]
    got = select(
        [Passage(text)], units, scores, [0.0], Budget(max_tokens), Rules(), words(), calibrated=True
    )
    return [shown[u] for u in got.units]


def test_a_setting_is_not_shown_below_the_section_of_another_of_its_name() -> None:
    both = {"2": 0.9, "5": 0.6}  # the timeouts of the server and of mail
    assert kept_lines(SETTINGS, both, 7) == ["[server]", "timeout = 45"]
    assert kept_lines(SETTINGS, both, 8) == ["[server]", "timeout = 45", "[mail]", "timeout = 12"]


def test_a_name_that_stands_once_tells_whose_it_is() -> None:
    assert kept_lines(SETTINGS, {"2": 0.9, "6": 0.6}, 7)[-1] == "retries = 3"


def test_a_key_is_not_shown_in_a_block_that_has_one_of_its_name() -> None:
    both = {"2": 0.9, "5": 0.6}
    assert kept_lines(MANIFEST, both, 5) == ["api:", "memory: 512Mi"]
    assert kept_lines(MANIFEST, both, 6) == ["api:", "memory: 512Mi", "shipper:", "memory: 64Mi"]
    assert kept_lines(MANIFEST, {"2": 0.9, "6": 0.6}, 5)[-1] == "priority: low"


def test_of_two_settings_of_one_name_the_one_whose_section_is_asked_for_comes_first() -> None:
    near = {"2": 0.57, "5": 0.56}
    assert kept_lines(SETTINGS, {**near, "3": 0.3}, 4) == ["[mail]", "timeout = 12"]
    assert kept_lines(SETTINGS, {**near, "0": 0.3}, 4) == ["[server]", "timeout = 45"]
    assert kept_lines(SETTINGS, near, 4) == ["[server]", "timeout = 45"]


def test_thousands_of_settings_of_one_name_take_no_time_that_grows_with_their_pairs() -> None:
    text = "".join(f"[s{n}]\ntimeout = {n}\n" for n in range(8_000))
    began = time.process_time()
    assert kept_lines(text, {"3": 0.9, "2": 0.5}, 4) == ["[s1]", "timeout = 1"]
    assert time.process_time() - began < 6
