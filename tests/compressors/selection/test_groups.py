"""Groups: a lead is kept for what is below it, and what is below brings its lead."""

from __future__ import annotations

import math
import random
import time
from pathlib import Path

import pytest

from tamis.compressors.rules import Budget, Rules
from tamis.compressors.selection.groups import LEAD_SHARE, LEAST_OF_IT, Groups
from tamis.compressors.selection.select import select
from tamis.probes.errors import BudgetTooSmall
from tamis.text.readers.code import split_long_code
from tamis.text.types import Passage, Unit
from tamis.text.units.segment import ROOM_SHARE, split_long_units, units_of
from tests.compressors.selection.select_kit import words


def kept(text: str, values: dict[str, float], max_tokens: int, rest: float = 0.02) -> list[str]:
    """The kept units, of calibrated values: of those that begin so, and of all others."""
    passages = [Passage(text)]
    units = units_of(passages, "en")
    shown = [text[slice(*unit.visible)] for unit in units]
    assert all(any(one.startswith(begin) for one in shown) for begin in values)
    scores = [
        next((v for begin, v in values.items() if one.startswith(begin)), rest) for one in shown
    ]
    budget = Budget(max_tokens)
    got = select(passages, units, scores, [0.0], budget, Rules(), words(), calibrated=True)
    return [shown[u] for u in got.units]


RUNBOOK = """## Steps

2. Restart the worker:

   ```bash
   systemctl restart worker
   ```

3. Call the person on duty.

Rows are dropped if:

- the customer was deleted,
- the amount is zero.

## 2.3.0 (March)

### Removed

- Support for Python 3.9.
"""


def test_a_lead_in_brings_its_code_and_its_list() -> None:
    step = kept(RUNBOOK, {"2. Restart": 0.9}, 9)
    assert [one.split()[0] for one in step] == ["2.", "```bash"]
    rows = kept(RUNBOOK, {"Rows are": 0.9, "3. Call": 0.3}, 14)
    assert rows == ["Rows are dropped if:", "- the customer was deleted,", "- the amount is zero."]


def test_an_item_brings_the_headings_that_say_of_which_version_it_is() -> None:
    item = ["## 2.3.0 (March)", "### Removed", "- Support for Python 3.9."]
    assert kept(RUNBOOK, {"- Support": 0.9}, 10) == item
    assert kept(RUNBOOK, {"- Support": 0.9}, 7) == item[1:]
    assert kept(RUNBOOK, {"- Support": 0.9}, 5) == item[2:]


def test_a_block_longer_than_the_budget_is_cut_at_its_own_joints() -> None:
    examples = Path(__file__).parents[3] / "examples"
    text = (examples / "everyday" / "services.yaml").read_text("utf-8")
    passages = [Passage(text)]
    whole = [Unit(0, 0, len(text), (0, len(text.rstrip())), "code")]
    parts = split_long_code(passages, whole, words(), 30)
    assert "".join(text[unit.start : unit.stop] for unit in parts) == text
    assert all(words().count(text[slice(*unit.visible)]) <= 30 for unit in parts)
    begins = [text[slice(*unit.visible)].split("\n")[0] for unit in parts]
    assert {"- name: billing", "- name: search", "backups:"} <= set(begins)
    assert split_long_code(passages, whole, words(), 1000) == whole


LONG = """Fixes:

- The copy of files as root did not clear bits of the owner, which date from the first program.
  It was reported in May. Nobody was harmed.
"""
CASTS = """create cast (alpha as text) without function as implicit;
create cast (gamma as text) without function as implicit;
create cast (omega as text) without function as implicit;
"""


def budget_of(room: int) -> int:
    """The least budget of which one unit may take so many tokens."""
    return math.ceil(room / ROOM_SHARE)


def test_an_item_is_cut_at_its_sentences_statements_at_their_lines_and_no_sentence_is() -> None:
    def parts(text: str, room: int) -> list[str]:
        passages = [Passage(text)]
        units = split_long_units(passages, units_of(passages), words(), budget_of(room))
        assert "".join(text[unit.start : unit.stop] for unit in units) == text
        return [text[slice(*unit.visible)].split("\n")[0] for unit in units]

    item = LONG.splitlines()[2]
    assert parts(LONG, 100) == ["Fixes:", item]
    sentences = [item, "It was reported in May.", "Nobody was harmed."]
    tokens = words().count(LONG[LONG.index("-") :].strip())
    for budget, found in ((tokens, [item]), (tokens - 1, sentences), (16, sentences)):
        one = split_long_units([Passage(LONG)], units_of([Passage(LONG)]), words(), budget)
        assert [LONG[slice(*unit.visible)].split("\n")[0] for unit in one[1:]] == found
    passages, one = [Passage(CASTS)], [Unit(0, 0, len(CASTS), (0, len(CASTS) - 1), "sentence")]
    assert split_long_units(passages, one, words(), budget_of(30)) == one
    lines = split_long_units(passages, one, words(), budget_of(20))
    assert [CASTS[slice(*unit.visible)] for unit in lines] == CASTS.splitlines()


def test_an_item_too_long_to_fit_beside_its_lead_in_is_kept_without_it() -> None:
    text = "You need the following things before you can begin:\n\n- a key for the door\n- a lamp\n"
    both = ["You need the following things before you can begin:", "- a key for the door"]
    assert kept(text, {"- a key": 0.9}, 15) == both
    assert kept(text, {"- a key": 0.9}, 14) == both[1:]


def test_a_lead_in_ends_with_what_it_introduces() -> None:
    text = "Bring these:\n\n- a lamp\n- bread:\n  - of rye\n- a key\n\nDoors close at ten.\n"
    groups = Groups(units_of([Passage(text)]), [Passage(text)])
    assert groups.parents == [-1, 0, 0, 2, 0, -1]
    assert groups.stops == {0: 5, 2: 4}
    assert set(groups.bonds[1:5]) == {2}


def test_an_item_does_not_introduce_the_next_one_beside_it() -> None:
    text = "- Height:\n- Width:\n  - of the door\n- Depth:\n"
    groups = Groups(units_of([Passage(text)]), [Passage(text)])
    assert groups.parents == [-1, -1, 1, -1]
    assert groups.stops == {1: 3}


def test_a_colon_before_nothing_or_another_passage_leads_to_nothing() -> None:
    passages = [Passage("It was said so:"), Passage("- a lamp")]
    groups = Groups(units_of(passages, "en"), passages)
    assert not groups.stops
    assert groups.parents == [-1, -1]


def test_a_sentence_after_a_colon_is_shown_with_it_if_it_is_short() -> None:
    text = "He said:\n\nThe lock is new.\n\nNobody was there.\n"
    assert kept(text, {"The lock": 0.9}, 6) == ["He said:", "The lock is new."]
    assert kept(text, {"The lock": 0.9}, 5) == ["The lock is new."]
    long = text.replace("He said", "He " + "really " * 40 + "said")
    assert kept(long, {"The lock": 0.9, "He": 0.001}, 99, rest=0.001) == ["The lock is new."]


def test_worth_is_inherited_as_far_as_what_is_below_is_worth_something_itself() -> None:
    text = "# Fees\n\nAdults pay nine.\n\nDogs bark.\n\n# Hours\n\nWe open at nine.\n"
    passages = [Passage(text)]
    groups = Groups(units_of(passages, "en"), passages)
    worths = groups.worths([0.8, 0.4, 0.0, 0.1, 0.3], calibrated=True)
    share, least = LEAD_SHARE * 0.8, LEAST_OF_IT
    assert worths == pytest.approx([0.8, share, least * share, 0.1, 0.3])
    scaled = groups.worths([9.0, 5.0, 1.0, 2.0, 4.0], calibrated=False)
    assert scaled[0] == 1
    assert scaled[1:3] == pytest.approx([LEAD_SHARE, least * LEAD_SHARE])


@pytest.mark.parametrize("lead", ["# Fees\n", "Bring these:\n\n", "name,price\n"])
def test_what_is_below_a_lead_is_never_worth_more_than_the_best_of_it_and_the_lead(
    lead: str,
) -> None:
    text = (
        lead
        + {"#": "One. Two. Three.", "B": "- one\n- two\n- three", "n": "a,1\nb,2\nc,3"}[lead[0]]
    )
    passages = [Passage(text)]
    groups = Groups(units_of(passages, "en"), passages)
    draw = random.Random(lead)
    for _ in range(200):
        values = [draw.random() for _ in groups.parents]
        worths = groups.worths(values, calibrated=True)
        assert len(values) == 4
        assert all(
            value <= worth <= max(values) for value, worth in zip(values, worths, strict=True)
        )
        # what was better without its lead is so with it
        order = sorted(range(1, 4), key=lambda u: values[u])
        assert order == sorted(range(1, 4), key=lambda u: (worths[u], values[u]))


def test_of_headings_alone_the_best_are_kept() -> None:
    contents = "# Setup\n\n# Backups\n\n# Restore a backup\n\n# Limits\n"
    assert kept(contents, {"# Restore": 0.9}, 5) == ["# Restore a backup"]


LOG = """2026-10-21 02:04:08 INFO unpack: begins
2026-10-21 02:04:10 ERROR unpack: cannot unpack images.zip
java.io.IOException: No space left on device
    at importer.Unpacker.write
2026-10-21 02:04:11 INFO unpack: ends
"""


def test_a_long_entry_of_a_log_is_cut_at_lines_and_the_next_lines_are_shown_with_the_first() -> (
    None
):
    passages = [Passage(LOG)]
    units = split_long_code(passages, units_of(passages), words(), 14)
    shown = [LOG[slice(*unit.visible)] for unit in units]
    cause = next(u for u, one in enumerate(shown) if one.startswith("java.io"))
    values = [0.9 if u == cause else 0.1 for u in range(len(units))]
    got = select(passages, units, values, [0.0], Budget(14), Rules(), words(), calibrated=True)
    first = next(u for u, one in enumerate(shown) if "ERROR" in one)
    assert set(got.units) == {first, cause}


def test_headings_of_html_have_levels_and_its_items_are_shown_with_theirs() -> None:
    page = (
        "<html><body>\n<h1>Visit</h1>\n<h2>Tickets</h2>\n<ul>\n<li>Adults: 14</li>\n"
        "<li>Children: free</li>\n</ul>\n<h2>Hours</h2>\n<p>Dogs may enter.</p>\n</body></html>"
    )
    passages = [Passage(page)]
    units = units_of(passages)
    groups = Groups(units, passages)
    place = {one: u for u, unit in enumerate(units) for one in [page[slice(*unit.visible)]]}

    def find(part: str) -> int:
        return next(u for one, u in place.items() if part in one)

    assert groups.parents[find("Hours")] == groups.parents[find("Tickets")] == find("Visit")
    assert (groups.parents[find("Adults")], groups.bonds[find("Adults")]) == (find("Tickets"), 1)
    assert (groups.parents[find("Dogs")], groups.bonds[find("Dogs")]) == (find("Hours"), 0)


def test_where_the_best_does_not_fit_what_is_far_below_it_is_kept_before_nothing_is() -> None:
    passages = [Passage("The dog barks at the grey cat. Cats purr."), Passage("Fish swim well.")]
    units = units_of(passages, "en")
    values, scores, plain = [0.9, 0.04, 0.03], [1.0, 0.0], (Rules(), words())
    got = select(passages, units, values, scores, Budget(3), *plain, calibrated=True)
    assert got.units == (1,)
    assert "the best sentence has 7 tokens as rendered, the budget is 3" in got.warnings[0]
    with pytest.raises(BudgetTooSmall, match=r"shortest sentence has 2 tokens .* the budget is 1"):
        select(passages, units, values, scores, Budget(1), *plain, calibrated=True)


def test_the_cause_in_a_long_trace_does_not_need_the_line_that_it_is_of() -> None:
    head = "2024-05-02 09:14:07 ERROR [exec-7] app.orders.Controller - Checkout failed"
    cause = "Caused by: org.postgresql.util.PSQLException: duplicate key"
    frames = [f"    at org.acme.orders.Service{i}.place(Service{i}.java:112)" for i in range(9)]
    text = "\n".join([head, *frames, cause, frames[0], "2024-05-02 09:14:09 INFO sent"])
    assert kept(text, {cause[:12]: 0.9}, 6) == [cause]
    assert kept(text, {cause[:12]: 0.9}, 14)[:2] == [head, cause]


def test_tags_alone_are_without_content() -> None:
    page = (
        "<!DOCTYPE html>\n<html>\n<body>\n<h2>Plans</h2>\n<p>Two are offered.</p>\n"
        "<details>\n<p>One is free.</p>\n</details>\n<p><img src='plans.png'></p>\n"
        "</body>\n</html>\n"
    )
    passages = [Passage(page)]
    units = units_of(passages)
    groups = Groups(units, passages)
    shown = [page[slice(*unit.visible)] for unit in units]
    vain = [shown[u] for u in sorted(groups.vain)]
    assert vain == [one for one in shown if not any(map(str.isalnum, _without_tags(one)))]


@pytest.mark.parametrize(
    ("alone", "says"),
    [
        *((sign, False) for sign in ("---", "…", "\u200b\u2060")),
        ("👍", True),
        ("是", True),
        ("7", True),
    ],
)
def test_signs_alone_never_stand_for_an_answer_that_is_too_long(alone: str, says: bool) -> None:
    long = "The keys are rotated every ninety days by the person on call. " * 2
    text = f"{long}\n\n{alone}\n\n{long.replace('keys', 'rooms')}"
    if says:
        assert kept(text, {"The keys": 0.9}, 4) == [alone]
        return
    with pytest.raises(BudgetTooSmall):
        kept(text, {"The keys": 0.9}, 4)


def _without_tags(text: str) -> str:
    return "".join("x" if "img" in part else part.partition(">")[2] for part in text.split("<"))


TICKETS = """Issue key,Summary,Status,Created,Description
PAY-1,Refund sent twice,Done,2026-04-02,"The worker retried, for the lock was gone."
PAY-2,Card form hangs,Open,2026-04-07,"The frame waits for an event. Turn off all tracking."
PAY-3,Rounding,Done,2026-04-12,None.
"""


def test_the_best_row_is_kept_without_a_header_that_has_no_room_and_no_other() -> None:
    header, row = TICKETS.splitlines()[0], TICKETS.splitlines()[2]
    both = words().count(f"{header}\n{row}")
    assert kept(TICKETS, {"PAY-2": 0.9}, both) == [header, row]
    assert kept(TICKETS, {"PAY-2": 0.9}, both - 1) == [row]
    figures = "kind name,price,count\nred,1,2\nblue,3,4\ngreen,5,6\n"
    assert kept(figures, {"red": 0.9}, 3) == ["kind name,price,count", "red,1,2"]
    assert kept(figures, {"red": 0.9}, 2, rest=0.001) == ["red,1,2"]
    after = f"{figures}\nIt is late.\n"
    assert kept(after, {"It is": 0.9, "red": 0.8}, 4) == ["It is late."]


def test_rules_of_a_table_are_without_content() -> None:
    text = "| a | b |\n|---|---|\n| one | 1 |\n|---|---|\n| | |\n| two | 2 |\n"
    passages = [Passage(text)]
    units = units_of(passages)
    vain = [text[slice(*units[u].visible)] for u in sorted(Groups(units, passages).vain)]
    assert vain == ["|---|---|", "| | |"]


def test_a_row_too_long_for_the_room_is_cut_before_its_longest_cell_and_at_its_sentences() -> None:
    passages = [Passage(TICKETS)]
    units = units_of(passages)
    cut = split_long_units(passages, units, words(), words().count(TICKETS.splitlines()[2]) - 1)
    assert "".join(TICKETS[unit.start : unit.stop] for unit in cut) == TICKETS
    shown = [TICKETS[slice(*unit.visible)] for unit in cut]
    at = shown.index("PAY-2,Card form hangs,")
    assert shown[at + 1 : at + 4] == [
        "Open,2026-04-07,",
        '"The frame waits for an event.',
        'Turn off all tracking."',
    ]
    plain = [Passage("| part | of | high |\n|---|---|---|\n| Lantern | iron and glass | 5 m |\n")]
    assert split_long_units(plain, units_of(plain), words(), 3) == units_of(plain)
    page = "<table>\n<tr><td>One, two and three; four. Five.</td><td>6</td></tr>\n</table>\n"
    rows = units_of([Passage(page)])
    assert "table_row" in {unit.kind for unit in rows}
    assert split_long_units([Passage(page)], rows, words(), 3) == rows
    groups = Groups(cut, passages)
    assert [lead for lead, _ in groups.shown_with(at + 3)] == [at, 0]
    assert groups.bonds[at + 3] == 1


def test_a_row_with_one_note_among_many_cells_is_parted_only_if_it_has_no_room_at_all() -> None:
    row = "SO-3,2025-02-10,Larsen,DK,HM-070,panel,1,389.00,EUR,shipped,GLS,sample for trade fair"
    orders = f"id,day,customer,land,sku,what,n,price,money,status,by,note\n{2 * (row + chr(10))}"
    passages, size = [Passage(orders)], words().count(row)
    units = units_of(passages)
    assert split_long_units(passages, units, words(), size) == units
    parts = split_long_units(passages, units, words(), size - 1)
    assert "sample for trade fair" in [orders[slice(*unit.visible)] for unit in parts]


def test_a_row_with_no_room_alone_is_cut_behind_what_names_it() -> None:
    text = (
        "id;name;room;bought;price;remarks\n"
        "M-01;Band saw;N1;2014-03-11;7400;\n"
        "M-08;Metal lathe;N4;2021-01-18;54200;Use the blue coolant only, for the other one foams\n"
        "M-09;Press;N4;2022-05-30;800;\n"
    )
    passages = [Passage(text)]
    units, row = units_of(passages), text.splitlines()[2]
    room = words().count(row)
    assert split_long_units(passages, units, words(), budget_of(room)) == units
    cut = split_long_units(passages, units, words(), room - 1)
    shown = [text[slice(*unit.visible)] for unit in cut]
    says = "Use the blue coolant only, for the other one foams"
    assert shown[2:5] == ["M-08;Metal lathe;", "N4;2021-01-18;54200;", says]
    scores = [{says: 0.9, shown[2]: 0.1}.get(one, 0.001) for one in shown]
    drawn = [
        Passage(
            "| part | remarks |\n|---|---|\n| Lathe | Use the blue coolant, never the other |\n"
        )
    ]
    assert split_long_units(drawn, units_of(drawn), words(), budget_of(11)) == units_of(drawn)
    budget = Budget(words().count(shown[2] + says))
    got = select(passages, cut, scores, [0.0], budget, Rules(), words(), calibrated=True)
    assert [shown[u] for u in got.units] == [shown[2], says]


def test_numbered_headings_are_below_those_with_signs() -> None:
    minutes = "".join(
        f"# Meeting of {day}\n\n1.2 Money\n---------\n\nThere is {n} euro.\n\n"
        for n, day in enumerate(("May", "June"))
    )
    passages = [Passage(minutes)]
    groups = Groups(units_of(passages, "en"), passages)
    assert groups.parents == [-1, 0, 1, -1, 3, 4]


@pytest.mark.parametrize(
    "line", ["Item {0}:\n", "- {0}:\n", "# A\n## P {0}\n", "#{1} P\n", "<h2>{0}</h2>\n"]
)
def test_an_outline_without_end_is_chosen_from_in_linear_time(line: str) -> None:
    """Each line may lead to all that follow, and was once tried with each of these."""

    def seconds(lines: int) -> float:
        text = "".join(line.format(i, "#" * (i % 5)) for i in range(lines)) + "\nSo be it.\n"
        clock = time.process_time()
        kept(text, {"So be it": 0.9}, 60, rest=0.4)
        return time.process_time() - clock

    seconds(50)
    short, long = (min(seconds(lines) for _ in range(3)) for lines in (200, 800))
    assert long < 8 * max(0.05, short)  # in quadratic time sixteen times as long


@pytest.mark.parametrize(
    "lead",
    ["# Keys\n\n", "| n | d |\n|---|---|\n", "Bring these:\n\n", "2026-10-21 02:04:08 INFO it:\n"],
)
def test_the_time_for_what_is_below_one_lead_grows_with_its_length(lead: str) -> None:
    below = {
        "#": "Keys are rotated.\n\n",
        "|": "| keys | 90 |\n",
        "B": "- keys\n",
        "2": "  at keys\n",
    }

    def seconds(lines: int) -> float:
        passages = [Passage(lead + below[lead[0]] * lines)]
        units = units_of(passages, "en")
        if lead[0] == "2":  # an entry that was cut at its lines
            units = split_long_units(passages, units, words(), 6)
        assert len(units) > lines
        clock = time.process_time()
        groups = Groups(units, passages)
        assert sum(parent == 0 for parent in groups.parents) == lines
        groups.worths([0.5] * len(units), True)
        return time.process_time() - clock

    short, long = (min(seconds(n) for _ in range(2)) for n in (1_000, 4_000))
    assert long < 10 * max(0.01, short)
