"""`/v1/highlight`: spans as OpenSearch reads them, in units with which Java cuts strings."""

from __future__ import annotations

import pytest

from tests.service.http.app_kit import NEEDLE, QUESTION
from tests.service.http.probability_kit import served_by_shares

CONTEXT = f"\U0001f600 Rooms are painted in spring. {NEEDLE} Nobody knows why."
OTHER = "Rooms are painted in spring. Nobody knows why."


THRESHOLD = 0.3


@pytest.fixture(scope="module")
def service():
    with served_by_shares() as running:
        yield running


def cut_as_java(text: str, highlight: dict[str, int]) -> str:
    units = text.encode("utf-16-le")
    return units[2 * highlight["start"] : 2 * highlight["end"]].decode("utf-16-le")


def test_a_highlight_is_a_sentence_that_answers(service):
    answer = service.post("/v1/highlight", question=QUESTION, context=CONTEXT, threshold=THRESHOLD)
    assert answer.status_code == 200, answer.text
    (found,) = answer.json()["highlights"]
    assert set(found) == {"start", "end"}
    assert cut_as_java(CONTEXT, found) == NEEDLE.strip()


def test_nothing_answers_at_a_probability_of_one(service):
    answer = service.post("/v1/highlight", question=QUESTION, context=OTHER, threshold=1.0)
    assert answer.json() == {"highlights": []}


def test_many_inputs_have_a_list_each_as_if_they_came_alone(service):
    alone = [
        service.post("/v1/highlight", question=QUESTION, context=text, threshold=THRESHOLD).json()
        for text in (CONTEXT, OTHER)
    ]
    pairs = [{"question": QUESTION, "context": text} for text in (CONTEXT, OTHER)]
    answer = service.post("/v1/highlight", inputs=pairs, threshold=THRESHOLD)
    assert answer.json() == {"highlights": [one["highlights"] for one in alone]}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"question": QUESTION},
        {"context": CONTEXT},
        {"question": QUESTION, "context": "a", "inputs": [{"question": "a", "context": "b"}]},
    ],
    ids=["nothing", "no context", "no question", "both"],
)
def test_half_a_request_is_refused_with_what_to_give(service, body):
    answer = service.post("/v1/highlight", **body)
    assert answer.status_code == 422
    assert "give question and context, or inputs" in answer.json()["error"]["message"]


def test_a_method_without_probabilities_is_refused(service):
    answer = service.post(
        "/v1/highlight", question=QUESTION, context=CONTEXT, model="lexical", threshold=0.5
    )
    assert answer.status_code == 422


def test_xinference_s_client_finds_the_message_of_an_error(service):
    answer = service.post("/v1/highlight")
    assert answer.json()["detail"] == answer.json()["error"]["message"]
