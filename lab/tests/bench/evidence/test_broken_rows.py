"""Broken corpora, queries and texts of benchmarks: one sentence each, and no traceback."""

from __future__ import annotations

import gzip
import json

import pytest
import torch

from tamis.probes.errors import BadInput
from tamis.service.files.streams import read_json_lines
from tamis_lab.bench.retrieval import load_judged_task
from tamis_lab.bench.selectors import (
    CapturedStates,
    SelectorRun,
    SelectorSettings,
    _load_shard,
    load_text,
)


def rows(path, *given):
    path.write_text("".join(f"{json.dumps(row)}\n" for row in given))
    return path


@pytest.mark.parametrize("cut", [-9, 40])
def test_a_truncated_gzip_file_is_named(tmp_path, cut):
    whole = gzip.compress(b"".join(b'{"id": %d}\n' % i for i in range(999)))
    for name in ("a.jsonl.gz", "a.txt.gz"):
        (tmp_path / name).write_bytes(whole[:cut])
    with pytest.raises(BadInput, match=r"a\.jsonl\.gz is damaged"):
        list(read_json_lines(tmp_path / "a.jsonl.gz"))
    with pytest.raises(BadInput, match=r"a\.txt\.gz is damaged"):
        load_text([tmp_path / "a.txt.gz"])


def test_titles_may_be_numbers_and_grades_text(tmp_path):
    corpus = rows(tmp_path / "c.jsonl", {"id": "a", "text": "apple pie", "title": 1984})
    queries = rows(tmp_path / "q.jsonl", {"query": "apple", "qrels": {"a": "1"}})
    task = load_judged_task("t", corpus, queries)
    assert task.documents[0].title == "1984"
    assert task.queries[0].grades == {"a": 1.0}


@pytest.mark.parametrize(
    ("ids", "query", "message"),
    [
        (("a", "a"), {"query": "x", "qrels": {"a": 1}}, "'a' more than once"),
        (("a", "b"), {"query": "x", "qrels": {"a": "high"}}, "row 1: the grades"),
        (("a", "b"), {"query": "x", "qrels": {"a": None}}, "row 1: the grades"),
        (("a", "b"), {"query": "x", "qrels": {"a": float("nan")}}, "is not finite"),
        (("a", "b"), {"query": "  ", "qrels": {"a": 1}}, "row 1: 'query'"),
        (("", "b"), {"query": "x", "qrels": {"b": 1}}, "id is ''"),
    ],
)
def test_what_cannot_be_measured_is_refused(tmp_path, ids, query, message):
    corpus = rows(tmp_path / "c.jsonl", *({"id": name, "text": "apple"} for name in ids))
    with pytest.raises(BadInput, match=message):
        load_judged_task("t", corpus, rows(tmp_path / "q.jsonl", query))


def test_a_damaged_shard_counts_as_absent(tmp_path):
    (tmp_path / "keys.safetensors").write_bytes(b"half of it")
    assert _load_shard(tmp_path / "keys.safetensors") == {}


def test_a_text_without_words_is_refused():
    run = object.__new__(SelectorRun)
    run.settings = SelectorSettings((5,), ("exact",), ((0, 0),))
    none, places = torch.zeros(5, dtype=torch.bool), torch.zeros(5, dtype=torch.int64)
    with pytest.raises(BadInput, match="letter or a digit"):
        next(run._cases(CapturedStates({}, {}, {}, none, places, places, places), 5))
