"""Outputs of real tools through `/v1/compress` with `messages`: a quarter of those that ship."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tamis_lab.bench.tools import OUTPUTS_FOLDER, LabelledOutput, find_kinds, load_outputs
from tests.service.http.app_kit import served
from tests.service.http.conversation_kit import call, result

SHARE = 0.3
KINDS = find_kinds(OUTPUTS_FOLDER)


@pytest.fixture(scope="module")
def service():
    with served(method="lexical", retrieve_bytes=10_000_000, max_request_tokens=10**6) as running:
        yield running


def conversation(labelled: LabelledOutput) -> list[dict[str, Any]]:
    output = labelled.output
    made_by = call(output.name or "bash", json.loads(output.arguments or "{}"))
    asks = [{"role": "user", "content": labelled.question}] if labelled.question else []
    return [*asks, made_by, result(output.text)]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_real_outputs_are_shortened_and_come_back(service, kind):
    lost = 0
    for labelled in load_outputs(KINDS[kind], kind)[::4]:
        talk = conversation(labelled)
        answer = service.post("/v1/compress", messages=talk, ratio=SHARE, config={"mode": "ccr"})
        assert answer.status_code == 200, answer.text
        found = answer.json()
        shown = found["messages"][-1]["content"]
        assert shown.strip()
        (one,) = found["compressions"]
        assert one["tokens_after"] <= SHARE * one["tokens_before"]
        if labelled.is_json:
            json.loads(shown)
        original = service.http.get(f"/v1/retrieve/{one['hash']}").json()
        assert original["original_content"] == labelled.text
        kept = one["kept"]
        lost += sum(not any(a <= e[0] and e[1] <= b for a, b in kept) for e in labelled.errors)
    assert lost == 0
