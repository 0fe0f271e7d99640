"""Many documents: cases have the size asked for and their evidence, and all ways are measured."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from tamis.probes.errors import BadInput
from tamis_lab.app import app
from tamis_lab.bench.speed_documents import WAYS, document_cases, measure_documents
from tests.compressors.features.test_stages import gate_probe
from tests.laws.methods import question_probe
from tests.probes import tiny
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture for every test here


def record(number):
    text = f"Mill number {number} is old. It was built in {1800 + number}. Boats pass by."
    start = text.index("It was")
    sents = [[0, start - 1], [start, text.index("Boats") - 1], [text.index("Boats"), len(text)]]
    return {
        "id": str(number),
        "question": f"When was mill number {number} built?",
        "docs": [{"title": f"Mill {number}", "text": text, "sents": sents, "gold": [1]}],
    }


RECORDS = [record(number) for number in range(12)]


def test_documents_have_the_size_asked_for_and_hold_the_evidence():
    count = len  # a token a character
    for case in document_cases(RECORDS, 3, 150, count):
        assert len(case.documents) == 3
        assert all(len(document.text) >= 150 for document in case.documents)
        ((document, start, stop),) = case.gold
        assert case.documents[document].text[start:stop].startswith("It was built in 18")
        assert case.question.split()[4] in case.documents[document].text.split("\n\n")[0]
        texts = [part for one in case.documents for part in one.text.split("\n\n")]
        assert len(texts) == len(set(texts))
    assert document_cases(RECORDS, 3, 150, count) == document_cases(RECORDS, 3, 150, count)
    with pytest.raises(BadInput, match="have text for 3 documents of 200 tokens, and 5 are asked"):
        document_cases(RECORDS, 5, 200, count)


def test_every_way_is_measured_beside_the_whole_reading():
    proxy = tiny.proxy()
    cases = document_cases(RECORDS, 4, 60, proxy.layout.tokenizer.count)[:2]
    found = measure_documents(
        proxy,
        cases,
        ["cold", "warm", "rerank"],
        probe=question_probe(proxy),
        gate=gate_probe(proxy, [0, 5.0, 1], [2, 0.0, 1]),
        rank_probe=None,
    )
    for path, ways in found.items():
        assert list(ways) == list(WAYS)
        assert ways["whole"]["faster"] == 1
        assert all(cell["ms_p50"] > 0 and cell["cases"] == 2 for cell in ways.values())
        if path != "rerank":
            assert ways["whole"]["units_read"] == 1 > ways["gate"]["units_read"]
            assert 0 <= ways["gate"]["evidence_0.1"] <= ways["gate"]["evidence_0.2"] <= 1
    assert 0 <= found["rerank"]["cascade"]["gold_first"] <= 1
    with pytest.raises(BadInput, match="no path 'fill' of documents"):
        measure_documents(proxy, cases, ["fill"])
    with pytest.raises(BadInput, match="no gate ships for tiny-llama"):
        measure_documents(proxy, cases, ["cold"], probe=question_probe(proxy))


def test_the_command_says_what_documents_are_made_of():
    run = CliRunner().invoke
    assert "give --data FILE" in run(app, ["bench", "speed", "--documents", "5"]).output
    both = run(app, ["bench", "speed", "--documents", "5", "--data", "x", "--against", "HEAD"])
    assert "leave out --against" in both.output
