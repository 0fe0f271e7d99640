"""Questions on installed documentation: found by place, whatever space is between the words."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from pathlib import Path

import pytest

from tamis.probes.errors import BadInput
from tamis.service.files.streams import read_json_lines
from tamis_lab.bench.everyday import load_questions
from tamis_lab.datasets.installed import AROUND_CHARS, installed_rows, installed_text

QUESTIONS = Path(__file__).parents[2] / "bench/questions/installed.jsonl"


def row(source, *answer):
    return {"source": str(source), "kind": "k", "half": "check", "question": "?", "answer": answer}


def test_an_answer_is_found_across_lines_and_comments_and_kept_as_it_stands(tmp_path):
    page = tmp_path / "page.conf"
    page.write_text("# Keys are\n#  rotated   every\n# 90 days.\nKEYS=1\n")
    found, left_out = installed_rows([row(page, "Keys are rotated every 90 days.", "KEYS=1")])
    assert found[0]["answer"] == ["Keys are\n#  rotated   every\n# 90 days.", "KEYS=1"]
    assert all(part in found[0]["text"] for part in found[0]["answer"])
    assert left_out == 0


def test_of_a_long_text_whole_lines_around_the_answer_are_read(tmp_path):
    lines = [f"Line {i} of the page." for i in range(1000)]
    page = tmp_path / "page.txt.gz"
    page.write_bytes(gzip.compress("\n".join(lines).encode()))
    text = installed_rows([row(page, "Line 500 of the page.")])[0][0]["text"]
    assert set(text.split("\n")) < set(lines)
    assert 2 * AROUND_CHARS < len(text) < 2 * AROUND_CHARS + 100


def test_what_is_not_here_or_reads_otherwise_is_left_out_and_counted(tmp_path):
    here = tmp_path / "page.txt"
    here.write_text("Keys are rotated.")
    rows = [
        row(here, "Keys are rotated."),
        row(here, "Keys", "doors"),
        row("man:no-such-page.1", "x"),
    ]
    found, left_out = installed_rows([*rows, row("pypi:no-such-package", "x")])
    assert (len(found), left_out) == (1, 3)
    with pytest.raises(BadInput, match="none of 2 questions has its source"):
        installed_rows(rows[1:3])


def test_modules_and_packages_have_a_text():
    assert "class TextWrapper" in (installed_text("stdlib:textwrap.py") or "")
    assert "numpy" in (installed_text("pypi:numpy") or "").lower()


def test_the_sources_of_one_half_are_not_in_the_other():
    rows = [row for _, row in read_json_lines(QUESTIONS)]
    halves = defaultdict(set)
    for one in rows:
        halves[one["half"]].add(one["source"])
        assert one["question"]
        assert all(part.strip() for part in one["answer"])
    assert set(halves) == {"tuning", "check"}
    assert not halves["tuning"] & halves["check"]
    assert len({(one["source"], one["question"]) for one in rows}) == len(rows) >= 370
    assert len({one["kind"] for one in rows}) >= 12


def test_the_bench_takes_such_a_file_and_no_pool_of_it(tmp_path):
    page, file = tmp_path / "page.txt", tmp_path / "questions.jsonl"
    page.write_text("Keys are rotated.")
    file.write_text(json.dumps(row(page, "Keys")))
    [asked] = load_questions(file, "check")
    assert (asked["texts"], asked["at"]) == (["Keys are rotated."], 0)
    with pytest.raises(BadInput, match="half is 'tuning'"):
        load_questions(file, "tuning")
    with pytest.raises(BadInput, match="leave --pool out"):
        load_questions(file, pool=2)
