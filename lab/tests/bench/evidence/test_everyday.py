"""Questions on short documents: what a reader can tell from the answer, and from the rest."""

from __future__ import annotations

import json

import pytest

from tamis_lab.bench.everyday import dangling_lines, is_from
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


def dangling(text, *kept):
    """The dangling lines of a text of which the lines that begin so are kept."""
    lines = text.split("\n")
    found = {at for at, line in enumerate(lines) if line.strip().startswith(kept)}
    assert len(found) >= len(kept)
    return list(dangling_lines(text, found, found))


CRON = """# Jobs of the file server
SHELL=/bin/bash

# nightly copy:
15 1 * * * copy /home

# quotas
*/20 * * * * quota-watch
"""


def test_comments_of_settings_are_no_headings_and_those_of_prose_are():
    assert dangling(CRON, "# nightly", "# quotas") == []
    notes = "# Jobs\nThey are run by the server at night.\n\n# Quotas\n- 20 GB each\n"
    assert dangling(notes, "# Quotas") == ["# Quotas"]
    assert dangling(notes, "# Quotas", "- 20") == []
    fenced = "# Setup\n\nRun this:\n\n```sh\n# install it\nmake\n\n# start it\n./run\n```\n"
    assert dangling(fenced, "Run this", "# install") == []
    assert dangling(fenced, "# Setup", "make") == []
    assert dangling(fenced, "# Setup") == ["# Setup"]


LIST = """You need:

- a key

- a card,
  valid for a year

- a form

Bring them along.
"""


def test_an_item_that_blank_lines_part_from_the_first_is_below_its_lead_in():
    assert dangling(LIST, "You need", "- a form") == []
    assert dangling(LIST, "You need", "valid") == []
    assert dangling(LIST, "You need", "Bring") == ["You need:"]
    assert dangling("Who pays?\n\nWe do.\n\nAnd you:\n", "Who", "And") == ["Who pays?"]
