"""The table of dialects: who takes a body, what a field says of itself, and a row that is added."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamis.service.http.routes.base import create_router
from tamis.service.http.routes.dialects import add_endpoint
from tamis.service.http.schemas import base
from tamis.service.http.schemas.base import LenientRequest, NoEffect
from tamis.service.http.schemas.dialects import base as dialect_base
from tamis.service.http.schemas.dialects.table import DIALECTS, ENDPOINTS, Endpoint, error_format
from tests.service.http.app_kit import DOCUMENTS, QUESTION, served
from tests.service.http.test_docs_pages import rows

CONTRIBUTING = Path(__file__).parents[3] / "CONTRIBUTING.md"
BY_PATH = {path: endpoint for endpoint in ENDPOINTS for path in endpoint.paths}
KEYS = (
    *("texts", "documents", "candidates", "instruct", "top_k", "truncation", "top_n"),
    *("raw_scores", "messages", "input", "query"),
)
MODELS = st.sampled_from(["rerank-2", "rerank-lite-1", "rerank-v3.5", "m"])
BODIES = st.dictionaries(st.sampled_from(KEYS), st.sampled_from([None, 1, []]))
BODIES |= st.fixed_dictionaries({"model": MODELS}, optional=dict.fromkeys(KEYS, st.just(1)))


def taker(path: str, body: dict[str, Any]) -> str:
    """The first word of the dialect's name that takes a body, decided step by step."""
    if path == "/v1/compress":
        if body.get("messages") is not None:
            return "Headroom"
        if "documents" in body:
            return "tamis"
        return "The" if "input" in body else "Headroom" if "messages" in body else "tamis"
    if path == "/rerank" and "texts" in body:
        return "TEI"
    if "candidates" in body and "documents" not in body:
        return "LibreChat"
    if "instruct" in body:
        return "SGLang"
    others = {"top_n", "raw_scores", "rank_fields", "max_chunks_per_doc"} & set(body)
    named = re.match(r"rerank-(lite-)?\d", str(body.get("model"))) and not others
    return "Voyage" if named or {"top_k", "truncation"} & set(body) else "Jina"


@pytest.mark.parametrize("path", ["/v1/compress", "/rerank", "/v1/rerank"])
@given(body=BODIES)
def test_a_body_is_taken_by_the_dialect_of_its_keys(path: str, body: dict[str, Any]):
    row = BY_PATH[path].dialect_of(body)
    assert re.split(r"\W", row.name)[0] == taker(path, body)
    assert error_format(path, body) == row.errors


def test_every_path_has_one_general_dialect_which_takes_what_no_other_claims():
    for endpoint in ENDPOINTS:
        general = [row for row in endpoint.dialects if row.key is row.claims is None]
        assert general == [endpoint.dialects[0]], endpoint.name
        for body in ({}, None, [], "text"):
            assert endpoint.dialect_of(body) is endpoint.dialects[0]
        assert len({row.request for row in endpoint.dialects}) == len(endpoint.dialects)


def test_no_two_endpoints_share_a_path_and_no_two_dialects_of_a_path_a_name():
    assert len(BY_PATH) == sum(len(endpoint.paths) for endpoint in ENDPOINTS)
    for endpoint in ENDPOINTS:
        assert len({row.name for row in endpoint.dialects}) == len(endpoint.dialects)
    assert len(DIALECTS) >= 15


def test_a_request_that_is_refused_unread_gets_the_errors_of_the_path():
    assert error_format("/v2/rerank") == "cohere"
    assert {error_format(path) for path in ("/rerank", "/reranking", "/predict")} == {"tei"}
    assert {error_format(p) for p in ("/v1/rerank", "/score", "/nowhere")} == {"openai"}


MARKED = [
    (schema, name, mark)
    for schema in dict.fromkeys(schema for _, schema in rows())
    if issubclass(schema, LenientRequest)
    for name, field in schema.model_fields.items()
    if (mark := NoEffect.of(field)) is not None
]


@pytest.mark.parametrize(
    ("schema", "name", "mark"), MARKED, ids=[f"{one.__name__}.{name}" for one, name, _ in MARKED]
)
def test_a_field_without_effect_is_named_with_its_reason(schema: Any, name: str, mark: NoEffect):
    sent = schema.model_construct(**{name: 7})
    for other, field in schema.model_fields.items():
        if field.is_required() and other != name:
            setattr(sent, other, None)
    expected = [f"{name} has no effect: {mark.why}"] if mark.warns else []
    assert LenientRequest.field_warnings(sent) == expected


def test_a_dialect_as_contributing_writes_it_is_served_and_described():
    (code,) = re.findall(
        r"```python\n(.*?class AcmeRequest.*?)```", CONTRIBUTING.read_text(), re.DOTALL
    )
    names = {**vars(base), **vars(dialect_base), "Annotated": Annotated, "Endpoint": Endpoint}
    exec(compile(code, str(CONTRIBUTING), "exec", dont_inherit=True), names)
    router = create_router()
    add_endpoint(router, names["ENDPOINT"])
    with served() as service:
        service.app.include_router(router)
        service.app.openapi_schema = None  # which was built without it
        body = {"question": QUESTION, "passages": DOCUMENTS[::-1], "turbo": True, "shade": "blue"}
        answer = service.post("/acme/sort", **body)
        refused = service.post("/acme/sort", passages=DOCUMENTS)
        described = service.http.get("/openapi.json").json()["paths"]["/acme/sort"]["post"]
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"order": [1, 0]}
    assert json.loads(answer.headers[base.WARNINGS_HEADER]) == [
        "turbo has no effect: there is one speed",
        "shade has no effect: it is not known here",
    ]
    assert refused.status_code == 422
    assert refused.json()["error"]["param"] == "question"
    assert described["summary"] == "Sort, as Acme"
    assert described["operationId"] == "acme_sort_acme_sort_post"
