"""What an agent needs next stays in small JSON: ids before echoes, one marker for many values."""

from __future__ import annotations

import json
import re

import pytest

from tamis.compressors.methods.lexical import Lexical
from tamis.compressors.tools.markers import default_marker
from tamis.compressors.tools.novelty import FEATURES, part_features
from tamis.compressors.tools.prepare import prepare_tool_outputs
from tamis.compressors.tools.types import ToolOutput
from tamis.probes.tokens import estimating_tokenizer
from tamis.text.readers.outputs.parse import parse_tool_output
from tamis.text.readers.outputs.parts import LAST_PROTECTED

COUNTER = estimating_tokenizer()
BOOKING = {
    "booking_id": "ZK14QD",
    "user_id": "ada_lin_41",
    "origin": "OSL",
    "cabin": "economy",
    "flights": [
        {"flight_number": "HAT271", "origin": "OSL", "date": "2026-12-24", "price": 160},
        {"flight_number": "HAT302", "origin": "BGO", "date": "2026-12-29", "price": 175},
    ],
    "paid": {
        "card_551": {"source": "card", "amount": 335, "id": "card_551"},
        "gift_902": {"source": "gift", "amount": 0, "id": "gift_902"},
    },
    "insured": False,
    "note": None,
    "seats": ["12A", "12B", "14C"],
}
CALL = ("get_booking", '{"booking_id": "ZK14QD", "user_id": "ada_lin_41"}')


def shorten(value, ratio, question="Change the booking."):
    text = json.dumps(value)
    prepared = prepare_tool_outputs([ToolOutput(text, *CALL)], question, COUNTER)
    limit = int(ratio * COUNTER.count(text))
    (found,) = prepared.select(prepared.score(Lexical()), [limit], default_marker)
    return text, limit, found


def test_new_ids_come_before_what_the_call_has_and_values_that_say_nothing():
    _, _, found = shorten(BOOKING, 0.5)
    shown = json.loads(found.text)
    assert [each["flight_number"] for each in shown["flights"]] == ["HAT271", "HAT302"]
    assert shown["seats"] == BOOKING["seats"]
    assert not {"booking_id", "user_id", "insured", "note"} & set(shown)


@pytest.mark.parametrize("ratio", [0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
def test_one_marker_stands_for_the_values_of_a_small_text_and_lists_have_their_own(ratio):
    text, limit, found = shorten(BOOKING, ratio)
    assert COUNTER.count(found.text) == found.tokens_out <= limit
    assert len(re.findall(r'"…[^"]*": "\[… (?:\d+ values|members? \d)', found.text)) <= 2
    shown = json.loads(found.text)
    # a list by name or place that lacks an entry says so
    for name, of in (("paid", dict), ("flights", list)):
        if name in shown and len(shown[name]) < len(BOOKING[name]):
            assert any("…" in str(each) for each in shown[name]), (name, of)
    pieces = "".join(text[start:stop] for start, stop in found.kept)
    marked = re.sub(r'(?:"… ?[^"]*": )?"\[… [^"]*\]"', "", found.text)
    assert marked == pieces


def test_the_marker_counts_the_values_and_their_tokens():
    _, _, found = shorten(BOOKING, 0.5)
    (count,) = re.findall(r'"…": "\[… (\d+) values omitted, (\d+) tokens\]"', found.text)
    lost = [one for one in found.omissions if one.unit == "members"]
    assert int(count[1]) == sum(one.tokens for one in lost)

    def scalars(value):
        if isinstance(value, dict | list):
            inner = value.values() if isinstance(value, dict) else value
            return sum(map(scalars, inner))
        return 1

    shown = json.loads(re.sub(r'"…": "[^"]*",? ?', "", found.text))
    assert int(count[0]) == scalars(BOOKING) - scalars(shown)


def test_larger_json_has_a_marker_for_each_gap():
    rows = [{"id": f"r{n}", "note": "of no interest here " * 9, "state": "ok"} for n in range(60)]
    rows[30]["state"] = "suspended since noon"
    _, _, found = shorten({"rows": rows}, 0.2, "Who is suspended?")
    assert len(re.findall(r"omitted, \d+ tokens", found.text)) == len(found.omissions) > 1
    assert "values omitted" not in found.text


def test_features_say_what_is_new_known_and_empty():
    text = json.dumps(BOOKING)
    parts = parse_tool_output(text).parts
    rows = {
        text[part.start : part.stop]: dict(zip(FEATURES, row, strict=True))
        for part, row in zip(parts, part_features(text, parts, " ".join(CALL)), strict=True)
        if not part.is_frame
    }
    assert rows['"flight_number": "HAT271"']["identifier"]
    assert rows['"flight_number": "HAT271"']["names_id"]
    assert rows['"date": "2026-12-24"']["date"]
    assert rows['"price": 160']["number"]
    assert rows['"booking_id": "ZK14QD"']["echoes"]
    assert rows['"insured": false']["empty"]
    assert any(row["listed"] for row in rows.values())
    assert not any(rows['"cabin": "economy"'].values())


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("Not applied.\n\nERRORS:\n- E999 SyntaxError: no\n- F821 x\n\nThis was it:\n", 2),
        ("Not applied.\nErrors:\n\n* bad indent\nThis was it:\n", 1),
        ("ERRORS:\n\n\n", 0),
    ],
)
def test_what_stands_under_errors_is_protected(text, lost):
    text += "\n".join(f"{n}: x = {n}" for n in range(14))  # too few for an odd one
    found = [p for p in parse_tool_output(text).parts if p.level <= LAST_PROTECTED]
    assert len(found) == lost


def test_what_postgresql_says_further_of_an_error_is_protected_and_of_another_record_is_not():
    at = "2026-11-26 10:00:{:02}.100 UTC [7] "
    lines = [at.format(n) + "LOG:  checkpoint complete" for n in range(18)]
    lines[6] = at.format(6) + "ERROR:  deadlock detected"
    lines[7] = at.format(7) + "DETAIL:  Process 71 waits for 72"
    lines[12] = at.format(12) + "DETAIL:  of a record that is none"
    text = "\n".join(lines)
    parts = parse_tool_output(text).parts
    found = [text[p.start : p.stop].strip() for p in parts if p.level <= LAST_PROTECTED]
    assert found == lines[6:8]
