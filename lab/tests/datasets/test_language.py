"""The language of labelled questions is guessed as their files name it."""

from __future__ import annotations

import pytest

from tamis.text.language import guess_language
from tamis_lab.datasets.records import load_records


@pytest.mark.data
@pytest.mark.parametrize("name", ["xquad_en", "xquad_de", "xquad_es", "xquad_zh", "covid_qa"])
def test_the_language_of_labelled_questions_with_passages_is_guessed_correctly(data_folder, name):
    rows = load_records(data_folder / "dev" / f"{name}.jsonl.gz")[::3]
    found = [guess_language(row["question"], [doc["text"] for doc in row["docs"]]) for row in rows]
    wrong = sum(code != row["lang"] for code, row in zip(found, rows, strict=True))
    assert wrong <= len(rows) // 100
