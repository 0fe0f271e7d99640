"""Questions on short documents: what a reader can tell from the answer, and from the rest."""

from __future__ import annotations

import json

import pytest

from tamis_lab.bench.everyday import is_from
from tests.service.cli.cli_kit import tamis


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("Every 90 days.", True),
        ("The keys are rotated every 90 days", True),  # the question's own words do not count
        ("In spring.", False),
        ("The keys are rotated.", False),
        ("Rotated in spring, every second year or so", False),
        ("", False),
    ],
)
def test_an_answer_is_from_a_text_that_has_half_of_its_new_words(said, found):
    answer = "Keys are rotated every 90 days."
    assert is_from(said, answer, "How often are the keys rotated?") == found


@pytest.mark.model
def test_a_reader_is_asked_with_the_answer_alone_and_with_the_rest(proxy_folder, tmp_path):
    (tmp_path / "keys.txt").write_text(
        "Keys are rotated every 90 days. Rooms are painted in spring."
    )
    asked = {"file": "keys.txt", "question": "How often are keys rotated?", "half": "check"}
    rows = [asked | {"answer": ["Keys are rotated every 90 days."]}, asked | {"answer": []}]
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = ("lab", "bench", "everyday", "--data", tmp_path, "--reader", proxy_folder, "--json")
    done = tamis(*words)
    assert done.exit_code == 0, done.stderr
    figures = json.loads(done.stdout)
    [row] = figures["rows"]
    assert (figures["questions"], len(row["said"])) == (1, 2)
    assert figures["sound"] == int(row["from_answer"] and not row["from_rest"])
    assert "90" in row["said"][0]
    assert "90" not in row["said"][1]
    kept = ("--results", tmp_path / "said.jsonl")
    first, again = tamis(*words, *kept), tamis(*words, *kept)
    assert json.loads(again.stdout)["rows"] == json.loads(first.stdout)["rows"]
    assert (tmp_path / "said.jsonl").read_text().count("\n") == 1
