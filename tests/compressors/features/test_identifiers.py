"""The record that a question names comes before those that only look like it."""

from __future__ import annotations

import json
import re
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamis.compressors.features.words import (
    MOST_IDENTIFIERS,
    NamedTexts,
    identifiers,
    record_texts,
)
from tamis.probes.tokens import estimating_tokenizer
from tamis.text.types import Passage
from tamis.text.units.segment import split_long_units, units_of

ORDERS = """\
order_id,order_date,customer,country,sku,product,qty,status,ship_date,note
SO-10481,2025-02-03,Bauer Elektro,DE,KX-200,Relay module,40,shipped,2025-02-05,
SO-10482,2025-02-03,Vermeulen BV,NL,KX-210,Relay module,12,shipped,2025-02-04,
SO-10483,2025-02-03,Larsen & Co,DK,PS-024,Power supply,25,cancelled,,"ordered twice, see SO-10479"
SO-10484,2025-02-04,Bauer Elektro,DE,PS-048,Power supply,10,backorder,,expected in March
SO-10485,2025-02-04,Hartley Controls,GB,KX-200,Relay module,100,shipped,2025-02-10,
SO-10486,2025-02-05,Petrescu SRL,RO,SN-011,Proximity sensor,300,shipped,2025-02-11,two parcels
SO-10487,2025-02-05,Vermeulen BV,NL,SN-012,Proximity sensor,60,returned,2025-02-07,wrong thread
SO-10490,2025-02-07,Hartley Controls,GB,PS-024,Power supply,30,on hold,,export licence is pending
"""
ROWS = ORDERS.splitlines()[1:]


def named_texts(question, texts):
    return NamedTexts.find(question, lambda: texts)


@pytest.mark.parametrize(
    ("question", "names"),
    [
        ("status of order SO-10490?", ["so-10490"]),
        ("What changed in 3.2.0, and in v3.2?", ["3.2.0", "v3.2"]),
        ("Who wrote commit 4f9c21e on 2025-02-07 at 08:40?", ["4f9c21e", "2025-02-07", "08:40"]),
        ("Was 10490 shipped", ["10490"]),
        ("E04 on the display, in Q3 or mp3", ["e04"]),
        ("U14というエラー", ["u14"]),
        ("What happened in 2019, after 24 hours, at 5 kg and on the 10th?", []),
        ("订单SO-10490的状态", ["so-10490"]),
        (" ".join(f"A-{n}" for n in range(1000, 1001 + MOST_IDENTIFIERS)), []),
        ("9" * 100_000, []),
    ],
)
def test_what_is_an_identifier(question, names):
    assert identifiers(question) == names


@pytest.mark.parametrize(
    ("question", "named", "others"),
    [
        ("SO-10490", "SO-10490 is on hold", "SO-10491 was shipped"),
        ("SO-1049", "so-1049 is on hold", "SO-10490 was shipped"),
        ("order 10490", "SO-10490 is on hold", "SO-10491 was shipped"),
        ("release 3.2.0", "3.2.0 drops it", "3.2.0-rc1 or 3.12.0 has it"),
        ("on 2025-02-07", "2025-02-07T10:00 stopped", "2025-02-08T10:00 started"),
        ("at 08:40", "leaves at 08:40:00", "leaves at 09:40"),
        ("commit 4f9c21e", "4F9C21E pins it", "77ac0de frees it"),
    ],
)
def test_a_text_with_the_identifier_is_above_those_with_another(question, named, others):
    texts = [others, "Nothing of the kind.", named, f"{named}, too"]
    scores = np.array([3.0, 5.0, -2.0, -3.0])
    raised = named_texts(question, texts).raise_scores(scores)
    assert raised[2] > raised[0] == 3.0
    assert raised[1] == 5.0  # neither above what has no identifier nor below it
    assert raised[2] > raised[3] > raised[0]


@pytest.mark.parametrize(
    "texts", [["SO-10490", "none"], ["SO-10491", "none"], ["SO-10490", "SO-10490 and SO-10491"]]
)
def test_nothing_moves_where_there_is_no_choice(texts):
    scores = np.array([1.0, 2.0])
    assert named_texts("SO-10490", texts).raise_scores(scores).tolist() == [1.0, 2.0]


def test_every_text_with_the_identifier_is_above_those_with_another_in_the_same_order():
    texts = ["SO-10490 a", "SO-10491", "SO-10490 b", "SO-10490 c", "none"]
    raised = named_texts("status of SO-10490", texts).raise_scores(np.array([3.0, 2, -5, -4, 1]))
    assert np.argsort(-raised).tolist() == [0, 3, 2, 1, 4]
    assert raised[[0, 1, 4]].tolist() == [3, 2, 1]


def test_of_two_identifiers_a_text_needs_both_where_others_have_another_one():
    texts = ["R500 2.4.0", "R300 2.4.1", "Notes of the R500: 2.4.1", "R500, R300", "2.4.1"]
    raised = named_texts("R500 2.4.1", texts).raise_scores(np.array([5.0, 4, 1, 3, 2]))
    assert np.argsort(-raised)[0] == 2
    compared = named_texts("SO-10490 or SO-10492?", ["SO-10490", "SO-10492", "SO-10491"])
    assert compared.raise_scores(np.array([1.0, 0, 2])).argmin() == 2


def test_units_of_other_records_lose_and_those_of_none_do_not():
    texts = ["SO-10490", "SO-10491", "none"]
    scores = np.array([1.0, 2.0, 0.5])
    assert named_texts("SO-10490", texts).raise_scores(scores, 2.0).tolist() == [2.1, 0.0, 0.5]


RECORDS = [
    dict(zip(ORDERS.split("\n", 1)[0].split(","), row.split(","), strict=False)) for row in ROWS
]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(RECORDS),
        json.dumps(RECORDS, indent=2),
        "\n".join(map(json.dumps, RECORDS)),
        "\n".join("- " + "\n  ".join(f"{k}: {v}" for k, v in one.items()) for one in RECORDS),
        ORDERS,
    ],
    ids=["JSON", "indented JSON", "JSON Lines", "YAML", "CSV"],
)
def test_every_part_of_a_record_has_its_identifier(text):
    passages = [Passage(text)]
    units = split_long_units(passages, units_of(passages), estimating_tokenizer(), 60)
    headings = np.full(len(units), -1)
    texts = record_texts(passages, units, headings)
    for unit, whole in zip(units, texts, strict=True):
        shown = text[slice(*unit.visible)]
        if unit.kind != "table_header":
            number = re.findall(r"SO-\d{5}", text[: unit.visible[1]])[-1 - ("SO-10479" in shown)]
            assert number in whole
            assert len({*re.findall(r"SO-104[89]\d", whole)}) == 1


CODES = """\
E04 No water. Check that the tap is open.
  The hose may be kinked.
E07: Heater fault. Call service.

On 2 May E12 came up. The pump was blocked.
"""


def test_the_sentences_of_a_line_that_begins_with_a_code_are_its_record():
    passages = [Passage(CODES)]
    units = units_of(passages)
    records = record_texts(passages, units, np.full(len(units), -1))
    shown = [CODES[slice(*unit.visible)] for unit in units]
    of = dict(zip(shown, records, strict=True))
    assert "E04" in of["Check that the tap is open."]
    assert "E07" in of["Call service."]
    assert "E12" not in of["The pump was blocked."]  # the line does not begin with it


@pytest.mark.parametrize(
    "line", ["svc-{0}:\n    port: {1}\n", '"SO-{0}": {{"a": {1}}},\n', "It is {1}. "]
)
def test_a_record_of_many_units_is_searched_in_linear_time(line):
    """Each unit once had the text of its record searched anew: 7 s for YAML of 94 kB."""
    asked = "port of svc-99999, SO-10490 or E04?"

    def seconds(count):
        text = "".join(line.format(10_000 + i, i) for i in range(count))
        passages = [Passage(f"{{\n{text}}}" if line[0] == '"' else f"all:\n  {text}")]
        units = units_of(passages)
        headings = np.full(len(units), -1)
        clock = time.thread_time()
        NamedTexts.find(asked, lambda: record_texts(passages, units, headings))
        return time.thread_time() - clock

    seconds(50)
    short, long = (min(seconds(count) for _ in range(3)) for count in (500, 2_000))
    assert long < 8 * max(0.01, short)  # in quadratic time sixteen times as long


@given(st.lists(st.sampled_from(ROWS), min_size=1, max_size=6))
def test_texts_that_come_again_have_what_each_has_alone(texts):
    question = "status of SO-10481 or SO-10490"
    found = named_texts(question, texts)
    alone = [named_texts(question, [text]) for text in texts]
    assert found.has.tolist() == [one.has[0].tolist() for one in alone]
    assert found.has_another.tolist() == [one.has_another[0].tolist() for one in alone]


def test_texts_are_not_looked_at_without_an_identifier():
    def fail():
        raise AssertionError

    assert NamedTexts.find("Who pays?", fail) is None


def test_what_nothing_has_is_told_where_others_of_its_kind_are_there():
    (said,) = named_texts("status of SO-99999 or SO-10481", ROWS).warnings
    assert "nothing that was read has 'so-99999'" in said
    assert not named_texts("status of SO-10481", ROWS).warnings
    assert not named_texts("status of ZZ-10481", ROWS).warnings  # nothing of this kind is there


@pytest.mark.model
def test_every_record_of_a_file_is_found_by_its_number(proxy_folder, encoder_folder):
    from tamis.service.api.compress import compress
    from tamis.service.api.rerank import rerank

    for row in ROWS:
        number = row.split(",")[0]
        question = f"status of order {number}"
        ranked = rerank(question, ROWS)
        assert ROWS[ranked.results[0].index] == row
        alike = rerank(question, ROWS, method="late_interaction")
        assert ROWS[alike.results[0].index] == row
        kept = compress(question, [ORDERS], max_tokens=80)
        assert row.rstrip(",") in kept.text
    missing = compress("status of order SO-99999", [ORDERS], max_tokens=80)
    assert any("so-99999" in warning for warning in missing.warnings)
