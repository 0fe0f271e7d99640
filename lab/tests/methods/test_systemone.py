"""A decision model behind a URL as a method, over a real socket."""

from __future__ import annotations

import json

import pytest

from lab.tests.methods.decision_kit import decision_server
from tamis.compressors.pipeline.compression import Compressor
from tamis.compressors.pipeline.reranking import Reranker
from tamis.compressors.registry import build_method, ships_for
from tamis.compressors.rules import Budget
from tamis.probes.errors import BadInput
from tamis.service.batch.job import BatchJob, resume_settings
from tamis.service.http.runtime.methods import ServedMethods
from tamis.service.http.runtime.settings import Settings
from tamis_lab.methods.systemone import DecisionFailed, SystemOne
from tests.compressors.selection.select_kit import words
from tests.probes import tiny

QUESTION = "When are the keys rotated?"
NEEDLE = "The keys are rotated every 90 days."
PASSAGES = [
    f"Rooms are blue. {NEEDLE} Nobody paints.",
    "Ada paints rooms. Bob does not paint.",
    "Keys open doors.",
]


@pytest.fixture
def server():
    with decision_server() as running:
        yield running


def test_what_the_decision_model_says_is_kept(server):
    method = SystemOne(server.url, model="laya")
    found = Compressor(method, "systemone", words()).compress(
        QUESTION, PASSAGES, Budget(max_tokens=8)
    )
    assert found.text == NEEDLE
    assert found.scores[1] == max(found.scores)
    assert found.tokens_read > 0
    assert found.windows == len(server.bodies) == len(PASSAGES)


def test_a_request_is_one_of_the_protocol(server):
    SystemOne(server.url, model="laya", api_key="secret").scores(QUESTION, *_segmented())
    body = server.bodies[0]
    assert set(body) == {"model", "state", "questions"}
    assert body["model"] == "laya"
    assert body["state"].startswith(f"Question: {QUESTION}\n\n[1] Rooms are blue.\n[2] {NEEDLE}")
    assert [set(question) for question in body["questions"].values()] == [
        {"type", "instructions"}
    ] * 3
    assert {question["type"] for question in body["questions"].values()} == {"noul"}
    assert server.headers[0]["authorization"] == "Bearer secret"


def _segmented(passages=PASSAGES):
    from tamis.text.types import Passage
    from tamis.text.units.segment import units_of

    whole = [Passage(text) for text in passages]
    return whole, units_of(whole)


def test_a_long_passage_is_asked_about_in_several_calls(server):
    long = " ".join(f"Room {i} is blue." for i in range(150))
    passages, units = _segmented([long])
    found = SystemOne(server.url).scores(QUESTION, passages, units)
    assert [len(body["questions"]) for body in server.bodies] == [64, 64, 22]
    assert len(found.values) == len(units) == 150


def test_documents_are_ranked_by_one_question_each(server):
    found = Reranker(SystemOne(server.url), "systemone").rerank(QUESTION, PASSAGES)
    assert found.results[0].index == 0
    assert found.calibrated
    assert [len(body["questions"]) for body in server.bodies] == [1, 1, 1]


def test_a_lone_surrogate_is_sent_as_its_escape(server):
    passages, units = _segmented(["Keys \ud800 are rotated. Rooms are blue."])
    assert len(SystemOne(server.url).scores("Keys \ud800?", passages, units).values) == 2
    assert "\ud800" in server.bodies[0]["state"]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (500, "answered 500"),
        (302, "answered 302"),
        (b"<html>", "gave no answer"),
        ({"answers": {}}, "no noul for every question"),
        ([], "no noul for every question"),
        ({"answers": {str(i): {"noul": 1.5} for i in range(9)}}, "a probability of 1.5"),
        ({"answers": {str(i): {"noul": None} for i in range(9)}}, "no noul for every question"),
    ],
    ids=["500", "redirect", "no JSON", "no answers", "a list", "not in [0, 1]", "null"],
)
def test_an_answer_that_is_none_is_an_error_that_says_so(server, answer, says):
    server.answers.append(answer)
    with pytest.raises(DecisionFailed, match=says):
        SystemOne(server.url).scores(QUESTION, *_segmented())
    assert len(server.bodies) == 1  # a redirect is not followed


def test_nobody_at_the_address_is_an_error_that_names_it():
    with pytest.raises(DecisionFailed, match=r"127\.0\.0\.1:9/.* gave no answer"):
        SystemOne("http://127.0.0.1:9/v1/systemone").scores(QUESTION, *_segmented())


def test_a_secret_stays_out_of_the_settings_of_a_batch():
    options = {"url": "http://127.0.0.1:1", "api_key": "hidden-key"}
    job = BatchJob(Budget(max_tokens=9), method="systemone", options=options, tokenizer="estimate")
    found = resume_settings(job)
    assert found["options.url"] == options["url"]
    assert "hidden-key" not in json.dumps(found)


@pytest.mark.parametrize("given", [{"url": "http://127.0.0.1:1/"}, {"model": "other"}])
def test_a_request_to_a_service_names_no_address(given):
    settings = Settings(proxy="tiny", methods=("systemone",), method="systemone")
    with pytest.raises(BadInput, match="leave it out"):
        ServedMethods(settings, tiny.proxy()).scorer("systemone", given=given)


def test_the_address_is_an_option(server):
    assert not ships_for("systemone")
    with pytest.raises(BadInput, match="give the option url"):
        build_method("systemone")
    with pytest.raises(BadInput, match="give one such as http"):
        build_method("systemone", url="file:///etc/passwd")
    build_method("systemone", url=server.url, model="clef").scores(QUESTION, *_segmented())
    assert {body["model"] for body in server.bodies} == {"clef"}
