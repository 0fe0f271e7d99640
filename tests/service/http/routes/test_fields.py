"""No field is ignored in silence: obeyed, named in the answer's warnings, or refused."""

from __future__ import annotations

import json

import pytest

from tests.service.http.app_kit import DOCUMENTS, QUESTION, served

JINA = {"query": QUESTION, "documents": DOCUMENTS}
INSTRUCTION = "Prefer painted rooms."
HEADER = "x-tamis-warnings"


@pytest.fixture(scope="module")
def service():
    with served() as running:
        yield running


def answer_of(service, path, body):
    answer = service.http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer


def scores_of(found):
    """Scores by document, in any dialect."""
    if isinstance(found, dict) and "scores" in found:
        return dict(enumerate(found["scores"]))
    rows = found if isinstance(found, list) else None
    rows = rows or next(found[k] for k in ("results", "data", "rankings") if k in found)
    keys = ("relevance_score", "score", "logit")
    return {row["index"]: next(row[k] for k in keys if k in row) for row in rows}


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/rerank", JINA, "instruction"),
        ("/rerank", JINA, "instruction"),
        ("/v2/rerank", JINA, "instruction"),
        ("/v1/rerank", {**JINA, "top_k": 2}, "instruction"),
        ("/rerank", {"query": QUESTION, "texts": DOCUMENTS}, "instruction"),
        ("/score", {"queries": QUESTION, "documents": DOCUMENTS}, "instruction"),
        ("/inference/v1/rerank", JINA, "instruction"),
        ("/v1/inference/m", {"queries": [QUESTION] * 2, "documents": DOCUMENTS}, "instruction"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_instruction_is_read_before_the_question(service, path, body, field):
    """As if both had been sent as the query."""
    with_instruction = answer_of(service, path, {**body, field: INSTRUCTION})
    both = f"{INSTRUCTION}\n{QUESTION}"
    queries = [both] * 2 if isinstance(body.get("queries"), list) else both
    name = "queries" if "queries" in body else "query"
    expected = scores_of(answer_of(service, path, {**body, name: queries}).json())
    assert scores_of(with_instruction.json()) == expected
    assert expected != scores_of(answer_of(service, path, body).json())
    assert HEADER not in with_instruction.headers


def test_sglang_s_instruct_is_an_instruction(service):
    found = answer_of(service, "/v1/rerank", {**JINA, "instruct": INSTRUCTION}).json()
    expected = answer_of(service, "/v1/rerank", {**JINA, "instruction": INSTRUCTION}).json()
    assert scores_of(found) == scores_of(expected)


IGNORED = {
    "metadata": ["a", "b"], "timeout": 100, "truncate_prompt_tokens": 9, "nonsense": {"a": 1},
}  # fmt: skip
IN_HEADER = [
    ("/v1/rerank", {**JINA, "top_k": 2}),
    ("/v1/rerank", {**JINA, "instruct": "i"}),
    ("/v1/rerank", {"query": QUESTION, "candidates": [{"id": "a", "text": "b"}]}),
    ("/rerank", {"query": QUESTION, "texts": DOCUMENTS}),
    ("/predict", {"inputs": [QUESTION, DOCUMENTS[0]]}),
    ("/v1/ranking", {"query": {"text": QUESTION}, "passages": [{"text": "a"}]}),
    ("/v1/inference/m", {"queries": [QUESTION], "documents": DOCUMENTS}),
    ("/inference/v1/rerank", JINA),
    ("/score", {"queries": QUESTION, "documents": DOCUMENTS}),
    ("/tokenize", {"prompt": "a"}),
    ("/v1/compress", {"input": DOCUMENTS[0], "query": QUESTION}),
]
IN_BODY = [
    ("/v1/rerank", {**JINA, "max_chunks_per_doc": 3}, ("meta", "warnings")),
    ("/v2/rerank", {**JINA, "max_tokens_per_doc": 3}, ("meta", "warnings")),
    ("/v1/compress", {"messages": [{"role": "user", "content": "a", "name": "b"}]}, ("warnings",)),
]


def names(warnings):
    return {warning.split(" has no effect: ")[0] for warning in warnings if "no effect" in warning}


@pytest.mark.parametrize(("path", "body"), IN_HEADER, ids=lambda value: str(value)[:30])
def test_fields_without_an_effect_are_named_in_a_header(service, path, body):
    given = answer_of(service, path, {**body, **IGNORED}).headers[HEADER]
    assert names(json.loads(given)) == set(IGNORED)
    assert HEADER not in answer_of(service, path, body).headers


@pytest.mark.parametrize(("path", "body", "place"), IN_BODY, ids=lambda value: str(value)[:30])
def test_fields_without_an_effect_are_named_in_the_answer(service, path, body, place):
    answer = answer_of(service, path, {**body, **IGNORED})
    found = answer.json()
    for key in place:
        found = found[key]
    own = {"max_chunks_per_doc", "max_tokens_per_doc"} & set(body)
    assert names(found) == {*IGNORED, *own}
    assert HEADER not in answer.headers


def test_fields_of_parts_are_named_with_their_place(service):
    spans = {"mode": "disabled", "colour": "red"}
    found = answer_of(service, "/v2/rerank", {**JINA, "relevant_spans": spans}).json()
    assert names(found["meta"]["warnings"]) == {"relevant_spans.colour"}
    config = {"compress_user_messages": True, "ccr": True}
    body = {"messages": [{"role": "user", "content": "a"}], "config": config}
    assert names(answer_of(service, "/v1/compress", body).json()["warnings"]) == {"config.ccr"}


def test_fields_of_documents_that_are_not_ranked_are_named(service):
    documents = [{"text": DOCUMENTS[0], "id": "a"}, DOCUMENTS[1]]
    found = answer_of(service, "/v1/rerank", {"query": QUESTION, "documents": documents}).json()
    assert found["meta"]["warnings"] == [
        "documents have fields that are not ranked (id); only their text is read"
    ]


@pytest.mark.parametrize(
    ("documents", "names", "lost"),
    [
        ([{"title": DOCUMENTS[0], "text": "x"}, {"text": "y", "title": "z"}], ["title"], None),
        ([{"title": DOCUMENTS[0]}, "a text"], ["title", "text"], None),
        ([{"title": DOCUMENTS[0]}], ["title", "titel", "body"], "titel, body"),
        ([{"title": DOCUMENTS[0], "year": 2020}], ["title", "year"], "year"),
        (DOCUMENTS[:2], ["title"], "title"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank"])
def test_rank_fields_that_no_document_has_are_named(service, path, documents, names, lost):
    body = {"query": QUESTION, "documents": documents, "rank_fields": names}
    told = answer_of(service, path, body).json()["meta"]["warnings"]
    want = [f"rank_fields has no effect for {lost}: no document has text there"] if lost else []
    assert [one for one in told if "rank_fields" in one] == want


def test_a_model_and_a_method_that_name_two_methods_are_refused(service):
    body = {"question": QUESTION, "documents": DOCUMENTS, "model": "lead"}
    assert answer_of(service, "/v1/compress", {**body, "method": "lead"}).json()["method"] == "lead"
    answer = service.post("/v1/compress", **body, method="lexical")
    assert answer.status_code == 422
    message = answer.json()["error"]["message"]
    assert message == "model is 'lead' and method 'lexical': give one of them"


def test_an_unknown_model_is_refused_beside_a_method_as_without_one(service):
    body = {"question": QUESTION, "documents": DOCUMENTS, "model": "lexicl"}
    alone, beside = (
        service.post("/v1/compress", **body),
        service.post("/v1/compress", **body, method="lexical"),
    )
    assert (alone.status_code, beside.status_code) == (404, 404)
    assert "did you mean 'lexical'?" in beside.json()["error"]["message"]
    assert beside.json()["error"]["message"] == alone.json()["error"]["message"]
    known = answer_of(service, "/v1/compress", {**body, "model": "default", "method": "lexical"})
    assert known.json()["method"] == "lexical"


def test_an_unknown_field_of_our_own_dialect_is_refused(service):
    answer = service.post("/v1/compress", question=QUESTION, documents=DOCUMENTS, nonsense=1)
    assert answer.status_code == 422
    assert "no field 'nonsense'" in answer.json()["error"]["message"]
