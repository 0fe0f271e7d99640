"""What tamis answered before, it answers now: a sample of the requests, and the comparison.

All of them: `python -m tests.golden compare`.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator

import pytest

from tamis.compressors.registry import LAB_METHODS, method_names
from tamis.compressors.rules import RULES
from tests.golden.record import (
    ANSWERS,
    ROWS,
    Session,
    read_answers,
    request_hash,
    row_report,
    session,
)
from tests.golden.table import REQUESTS, Row

QUICK = [row for row in REQUESTS if row.quick]
MACHINE, RECORDED = read_answers()


@pytest.fixture(scope="module")
def golden(proxy_folder, encoder_folder) -> Iterator[Session]:
    with session() as running:
        yield running


@pytest.mark.model
@pytest.mark.parametrize("row", QUICK, ids=lambda row: row.name)
def test_a_sample_is_answered_as_it_was(golden: Session, row: Row):
    """Where this fails and is meant: `python -m tests.golden record`, and say why in the commit."""
    assert row_report(RECORDED[row.name]["answer"], golden.answer(row), exact=False) == []


def test_every_request_is_recorded_and_none_besides():
    assert {row.name: request_hash(row) for row in REQUESTS} == {
        name: row["sent"] for name, row in RECORDED.items()
    }
    assert len(ROWS) == len(REQUESTS) >= 200
    assert ANSWERS.stat().st_size < 1_000_000


def test_requests_go_over_every_method_rule_and_path():
    sent = json.dumps([row.spec for row in REQUESTS])
    names = [
        name for kind in ("compression", "reranking", "ordering") for name in method_names(kind)
    ]
    names = [name for name in names if name not in LAB_METHODS]
    names += [rule.name for rule in RULES]
    assert [name for name in names if f'"{name}"' not in sent] == []
    document = RECORDED["http: GET /openapi.json"]["answer"]["body"]
    asked = {row.spec["path"].partition("?")[0] for row in REQUESTS if row.kind == "http"}
    fixed = {path for path in document["paths"] if "{" not in path}
    assert fixed - asked == set()
    begun = {path.partition("{")[0] for path in document["paths"] if "{" in path}
    assert [start for start in begun if not any(path.startswith(start) for path in asked)] == []


def recorded(name: str) -> tuple[dict, dict]:
    """A recorded answer, and a copy to change."""
    answer = RECORDED[name]["answer"]
    return answer, copy.deepcopy(answer)


def test_a_score_may_differ_in_its_last_digits_unless_all_have_to_agree():
    was, now = recorded("library: method question_rows")
    now["scores"][3] *= 1 + 1e-4
    assert row_report(was, now, exact=False) == []
    assert [line.split(":")[0] for line in row_report(was, now, exact=True)] == ["~ /scores/3"]
    now["scores"][3] *= 1.01
    assert [line.split(":")[0] for line in row_report(was, now, exact=False)] == ["~ /scores/3"]


@pytest.mark.parametrize("exact", [False, True])
def test_text_counts_and_fields_agree_to_the_letter(exact: bool):
    was, now = recorded("http: /v1/compress default")
    now["body"]["text"] += " "
    now["body"]["usage"]["output_tokens"] += 1
    now["body"]["new"] = None
    del now["body"]["status"]
    assert [line.split(":")[0] for line in row_report(was, now, exact)] == [
        "~ /body/text",
        "~ /body/usage/output_tokens",
        "- /body/status",
        "+ /body/new",
    ]


@pytest.mark.parametrize("apart", [1e-5, 1e-2])
@pytest.mark.parametrize(
    ("name", "where"),
    [("http: /v1/rerank Jina", ("body", "results")), ("rerank: method icr", ("results",))],
)
def test_what_ties_may_come_in_another_order_and_nothing_else(name, where, apart):
    was, now = recorded(name)
    for answer in (was_copy := copy.deepcopy(was), now):
        ranked = answer
        for step in where:
            ranked = ranked[step]
        score = "relevance_score" if "relevance_score" in ranked[0] else "score"
        first = ranked[0][score]
        ranked[1][score] = first - abs(first) * apart
        if answer is now:
            ranked[:2] = ranked[1::-1]
    assert (row_report(was_copy, now, exact=False) == []) == (apart < 1e-3)
    assert row_report(was_copy, now, exact=True)


@pytest.mark.parametrize("apart", [1e-5, 1e-2])
def test_of_units_that_tie_either_may_be_kept(apart):
    was, now = recorded("library: method question_rows")
    kept = was["kept"][0]["unit"]
    other = next(unit for unit in range(len(was["units"])) if unit not in
                 {one["unit"] for one in was["kept"]})  # fmt: skip
    for answer in (was := copy.deepcopy(was), now):
        answer["scores"][other] = answer["scores"][kept] * (1 - apart)
    now["kept"][0]["unit"], now["text"] = other, "the other"
    assert (row_report(was, now, exact=False) == []) == (apart < 1e-3)
    assert row_report(was, now, exact=True)
