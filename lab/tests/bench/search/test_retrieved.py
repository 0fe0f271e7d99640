"""`tamis lab bench retrieved`: what it gathers, counts and shows."""

from __future__ import annotations

import json

import pytest

from tamis_lab.bench.retrieved import _gather
from tests.service.cli.cli_kit import tamis

FILLER = "Nothing of note happened that year."
TEXTS = {
    "Malo": f"The old harbour of Malo was closed in 1907. {FILLER}",
    "Bread": f"A loaf cost two pennies. {FILLER}",
}


def record(name, question, title):
    docs = [
        {
            "title": own,
            "text": text,
            "sents": [[0, text.index(FILLER)], [text.index(FILLER), len(text)]],
            "gold": [0] if own == title else [],
        }
        for own, text in TEXTS.items()
    ]
    return {"id": name, "question": question, "answerable": True, "docs": docs}


@pytest.fixture
def records(tmp_path):
    rows = [
        record("a", "When was the harbour of Malo closed?", "Malo"),
        record("b", "What did a loaf cost?", "Bread"),
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path / "rows.jsonl"


def test_a_passage_of_several_records_is_kept_once_and_gold_is_of_its_place(records):
    def count(texts):
        return [len(text) for text in texts]

    passages, asked = _gather(records, 10**6, count)
    assert [passage.title for passage in passages] == list(TEXTS)
    gold = [passages[p].text[start:stop].strip() for one in asked for p, start, stop in one.gold]
    assert gold == ["The old harbour of Malo was closed in 1907.", "A loaf cost two pennies."]
    assert len(_gather(records, 1, count)[1]) == 1  # as many records as there are tokens for


@pytest.mark.model
@pytest.mark.usefixtures("proxy_folder")
def test_a_search_for_all_keys_is_as_dense_as_dense(records, tmp_path):
    words = ["lab", "bench", "retrieved", records, "--cache", tmp_path / "kept"]
    words += ["--budgets", "20", "--results", tmp_path / "rows.jsonl.out", "--json"]
    done = tamis(*words, "--readings", "passages,dense,exact:1000,words:1,quest:1000")
    assert done.exit_code == 0, done.output
    figures = {row["reading"]: row for row in json.loads(done.stdout)["rows"]}
    assert figures["exact:1000"]["rho"] == pytest.approx(1, abs=1e-6)
    assert figures["exact:1000"]["alone"] == figures["dense"]["alone"]
    assert figures["quest:1000"]["rho"] == pytest.approx(1, abs=1e-6), "trained before it asks"
    assert figures["passages"]["rho"] is None  # read before the dense one
    assert max(figures["words:1"]["whole"]) > 0
    assert {row["questions"] for row in figures.values()} == {2}
    refused = tamis("lab", "bench", "retrieved", records, "--readings", "sparse")
    assert refused.exit_code == 2
    assert "none of passages, dense" in refused.stderr
