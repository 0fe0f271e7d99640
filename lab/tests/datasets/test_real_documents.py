"""Real documents with marked answers: what an answer needs is marked, and no author is in both."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tamis.service.files.streams import read_json_lines

FOLDER = Path(__file__).parents[2] / "data/real"
FILES = {"train": False, "held_out": True}
LICENCES = ("MIT", "Apache-2.0", "BSD", "ISC", "CC0", "CC-BY-", "Unlicense", "public domain", "OGL")


def documents(name):
    """The rows of a file."""
    return [row for _, row in read_json_lines(FOLDER / f"{name}.jsonl.gz")]


@pytest.mark.parametrize("name", FILES)
def test_what_an_answer_needs_stands_in_marked_lines(name):
    """One way of each text does; a near miss has neither."""
    for row in documents(name):
        lines = row["text"].split("\n")
        for asked in row["questions"]:
            marked = ["\n".join(lines[a - 1 : b]) for a, b in asked["gold"]]
            assert bool(asked["must"]) == bool(marked) == asked["answerable"], asked["q"]
            assert all(1 <= a <= b <= len(lines) for a, b in asked["gold"]), asked["q"]
            for must in asked["must"]:
                ways = [must] if isinstance(must, str) else must
                assert any(way in text for way in ways for text in marked), must


@pytest.mark.parametrize(("name", "held_out"), FILES.items())
def test_authors_are_held_out_by_the_name_of_their_repository(name, held_out):
    """So a document that is added falls on one side, whoever adds it."""
    for row in documents(name):
        digest = hashlib.sha256(row["source"]["repo"].encode()).digest()
        assert (digest[1] % 3 == 0) == held_out, row["id"]


def test_every_document_may_be_passed_on():
    """Its source names a permissive licence, and no id is given twice."""
    rows = [row for name in FILES for row in documents(name)]
    assert all(row["source"]["licence"].startswith(LICENCES) for row in rows)
    assert all(row["source"]["commit"] and row["source"]["path"] for row in rows)
    assert len({row["id"] for row in rows}) == len(rows)
