"""`examples/rag.py` says what was saved, and the evidence it looks for is really in the pages."""

from __future__ import annotations

import json
import re

import pytest

from examples import rag


def test_every_answer_stands_once_in_its_page():
    asked = json.loads((rag.HERE / "questions.json").read_text("utf-8"))
    assert len(asked) >= 20
    assert len({entry["question"] for entry in asked}) == len(asked)
    for entry in asked:
        page = (rag.HERE / entry["file"]).read_text("utf-8")
        assert page.count(entry["answer"]) == 1, entry


def test_no_answer_is_cut_in_two_by_the_passages():
    """Else it could not be found, whatever is kept."""
    passages = [document.page_content for document in rag.pages()]
    for entry in json.loads((rag.HERE / "questions.json").read_text("utf-8")):
        assert sum(entry["answer"] in passage for passage in passages) == 1, entry


@pytest.mark.model
def test_the_example_saves_tokens_and_keeps_the_evidence(
    capsys, proxy_folder, encoder_folder, one_thread
):
    rag.main(["--first", "4", "--max-tokens", "300"])
    line = capsys.readouterr().out.splitlines()[-1]
    summary = re.fullmatch(
        r"4 questions: (\d+) tokens found, (\d+) kept, (\d+)% saved; "
        r"evidence found for (\d), kept for (\d)",
        line,
    )
    assert summary, line
    found, kept, saved, there, held = map(int, summary.groups())
    assert kept <= 4 * 300 < found
    assert saved == round(100 * (1 - kept / found))
    assert there == held == 4
