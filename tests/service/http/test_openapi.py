"""The OpenAPI document to the letter: schemathesis asks whatever it allows, and what it does not.

`CASES=500 pytest tests/service/http/test_openapi.py` asks more often.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter

import hypothesis
import pytest

from tests.service.http.app_kit import served

schemathesis = pytest.importorskip("schemathesis")
negative_data_rejection = pytest.importorskip(
    "schemathesis.specs.openapi.checks"
).negative_data_rejection
CASES = int(os.environ.get("CASES", "5"))
# what a schema cannot say: a budget smaller than any sentence, two budgets, a pattern, a span; a
# time that does not suffice
pytestmark = [pytest.mark.timeout(300 + 10 * CASES), pytest.mark.random_order(disabled=True)]
REFUSED_FOR_REASONS = [422, 404, 408]
seen: Counter[tuple[str, int]] = Counter()


@pytest.fixture(scope="module")
def service():
    with served(timeout_s=20) as running:
        yield running


@pytest.fixture(scope="module")
def document(service):
    config = schemathesis.Config.from_dict(
        {
            "checks": {
                "positive_data_acceptance": {
                    "expected-statuses": ["2xx", *map(str, REFUSED_FOR_REASONS)]
                },
            }
        }
    )
    return schemathesis.openapi.from_url(f"{service.url}/openapi.json", config=config)


def test_every_route_is_described_with_its_errors(service):
    found = service.http.get("/openapi.json").json()
    assert set(found["paths"]) >= {
        "/v1/compress", "/v1/compress/batch", "/v1/explain", "/v2/rerank", "/v1/rerank", "/rerank",
        "/score", "/v1/score", "/v1/search", "/v1/models", "/v1/highlight",
        "/v1/expand", "/reranking", "/v1/ranking", "/v1/retrieval/{model}/reranking", "/predict",
        "/v1/inference/{model}", "/inference/v1/rerank", "/v1/reranking", "/reranks", "/v1/reranks",
        "/compatible-api/v1/reranks", "/infinity/rerank", "/models", "/v1/models/{uid}",
        "/v1/cluster/auth", "/info", "/tokenize", "/livez",
        "/readyz", "/health", "/ping", "/metrics", "/invocations",
    }  # fmt: skip
    for path, operations in found["paths"].items():
        if "post" in operations:
            assert {"200", "400", "401", "413", "422", "429", "503", "504"} <= set(
                operations["post"]["responses"]
            ), path
    schemas = found["components"]["schemas"]
    assert "HTTPValidationError" not in schemas
    referred = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(found)))
    assert referred - set(schemas) == set()


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_the_service_does_what_the_document_says(document, mode):
    for found in document.get_all_operations():
        operation = found.ok()
        if mode.is_negative and not operation.body:
            continue  # nothing can be wrong with no input
        _ask(operation.as_strategy(generation_mode=mode))


def _ask(cases) -> None:
    @hypothesis.settings(
        max_examples=CASES,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],
        database=None,
        derandomize=CASES < 50,
    )
    @hypothesis.given(case=cases)
    def ask(case) -> None:
        answer = case.call()
        seen[(case.path, answer.status_code)] += 1
        # an input of a batch that is no request has an error of its own in an answer of 200
        own = [negative_data_rejection] if case.path == "/v1/compress/batch" else []
        case.validate_response(answer, excluded_checks=own)

    ask()


def test_enough_of_it_was_answered():
    """The last of this file: cases that were all refused would prove little."""
    served_well = sum(count for (_, status), count in seen.items() if status == 200)
    assert served_well >= 3 * CASES, seen
    assert not any(status >= 500 and status != 503 for _, status in seen), seen
    if CASES >= 50:
        assert served_well >= 300, seen
        print(sum(seen.values()), "cases", served_well, "answered 200", dict(seen))  # noqa: T201
