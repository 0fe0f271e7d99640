"""The figures of `bench retrieval`: by hand on a few documents, and through the command."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from tamis.probes.errors import BadInput
from tamis.retrieval.index.store import CorpusIndex
from tamis.retrieval.index.writer import create_index
from tamis.retrieval.storage.manifest import IndexSettings
from tamis.text.types import CorpusDocument
from tamis_lab.bench.retrieval import (
    GradedQuery,
    RetrievalTask,
    fuse_reciprocal_ranks,
    load_judged_task,
    measure_index,
    pool_records,
)
from tests.service.cli.cli_kit import tamis

TEXTS = {"a": "quay quay", "b": "quay bread and much more than that", "c": "glass"}
DOCUMENTS = tuple(CorpusDocument(name, text) for name, text in TEXTS.items())


@pytest.fixture
def rows(tmp_path):
    corpus, queries = tmp_path / "corpus.jsonl", tmp_path / "queries.jsonl"
    corpus.write_text("\n".join(json.dumps({"docid": n, "text": t}) for n, t in TEXTS.items()))
    queries.write_text(json.dumps({"query": "quay", "qrels": {"b": 1, "c": 1, "a": 0}}))
    return corpus, queries


def test_reciprocal_ranks_by_hand():
    a = np.array([3, 2, 1, 0], np.float32)
    b = np.array([0, 5, 9, 0], np.float32)
    fused = fuse_reciprocal_ranks({"a": a, "b": b}, np.ones(4, bool), 2)
    assert fused == pytest.approx([1 / 61, 1 / 62 + 1 / 62, 1 / 61, 0])


def test_figures_by_hand(tmp_path):
    """`quay` finds a before b and never c; b and c are relevant, b twice as much."""
    with create_index(tmp_path / "i", IndexSettings()) as writer:
        writer.put(DOCUMENTS)
        writer.finish()
    task = RetrievalTask(
        "t", DOCUMENTS, (GradedQuery("quay", {"b": 2, "c": 1}), GradedQuery("glass", {"c": 1}))
    )
    calls = []
    found = measure_index(CorpusIndex.open(tmp_path / "i"), task, lambda: calls.append(1))
    row = found["systems"]["bm25"]
    assert list(found["systems"]) == ["bm25"]
    assert (len(calls), found["queries"], found["documents"]) == (2, 2, 3)
    # all three are ranked: what scores 0 comes last, in order
    gained, ideal = 2 / math.log2(3) + 1 / math.log2(4), 2 + 1 / math.log2(3)
    assert row["ndcg@10"] == pytest.approx((gained / ideal + 1) / 2)
    assert row["recall@10"] == 1


def test_records_are_pooled_and_each_passage_is_there_once(tmp_path):
    doc = {"title": "T", "text": "A quay.", "sents": [[0, 7]], "gold": [0]}
    other = {"title": "T", "text": "Bread.", "sents": [[0, 6]], "gold": []}
    records = [
        {"id": "1", "question": "q", "docs": [doc, other]},
        {"id": "2", "question": "r", "docs": [{**doc, "gold": []}, {**other, "gold": [0]}]},
        {"id": "3", "question": "s", "docs": [other]},
    ]
    file = tmp_path / "r.jsonl"
    file.write_text("\n".join(map(json.dumps, records)))
    task = pool_records("p", [file])
    assert [document.text for document in task.documents] == ["A quay.", "Bread."]
    assert [dict(query.grades) for query in task.queries] == [{"0": 1.0}, {"1": 1.0}]


def test_grades_of_documents_that_are_not_there_are_refused(rows, tmp_path):
    rows[1].write_text(json.dumps({"query": "quay", "qrels": {"zebra": 1}}))
    with pytest.raises(BadInput, match="'zebra'"):
        load_judged_task("t", *rows)
    rows[1].write_text(json.dumps({"query": "quay", "qrels": {"a": 0}}))
    with pytest.raises(BadInput, match="no query has a relevant document"):
        load_judged_task("t", *rows)


def test_the_command_prints_what_was_measured_and_builds_once(rows, tmp_path):
    words = ("lab", "bench", "retrieval", "--corpus", rows[0], "--queries", rows[1], "--no-model")
    words = (*words, "--vectors", "none", "--cache", tmp_path / "kept", "--json")
    first = tamis(*words)
    assert first.exit_code == 0, first.output
    found = json.loads(first.stdout)["tasks"]["corpus"]["systems"]["bm25"]
    assert found["recall@10"] == 1
    (folder,) = (tmp_path / "kept").iterdir()
    made = (folder / "manifest.json").stat().st_mtime_ns
    assert json.loads(tamis(*words).stdout)["tasks"]["corpus"]["queries"] == 1
    assert (folder / "manifest.json").stat().st_mtime_ns == made


def test_a_corpus_without_queries_is_refused(rows):
    done = tamis("lab", "bench", "retrieval", "--corpus", rows[0], "--no-model")
    assert done.exit_code == 2
    assert "go together" in done.stderr
