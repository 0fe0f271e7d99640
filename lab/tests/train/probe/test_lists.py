"""Queries with lists made of labelled records: the first stage, what is relevant, what is not."""

from __future__ import annotations

import math

import pytest

from lab.tests.bench.records import doc, read, record, write
from tamis.probes.errors import BadInput
from tamis_lab.datasets.qrels import load_queries
from tamis_lab.train.probe.query_lists import (
    K1,
    B,
    FirstStage,
    HeldOutQueries,
    build_query_lists,
    index_terms,
)
from tests.service.cli.cli_kit import tamis

CORPUS = [
    {"docid": "a", "title": "Pins", "text": "Pins rust in the barn."},
    {"docid": "b", "title": "", "text": "The harbour of Malo closed in spring."},
    {"docid": "c", "title": "Ships", "text": "Ships came to the harbour in summer."},
    {"docid": "d", "title": "", "text": "Nobody knew."},
]
CLAIMS = [
    record("1", "The harbour of Malo closed.", doc(CORPUS[1]["text"])),
    record("2", "Ships came in summer.", doc(CORPUS[2]["text"], gold=[0]), doc(CORPUS[0]["text"])),
    record("3", "Pins rust.", doc("A text from elsewhere.", gold=[0])),
    record("4", "Wholly other words.", doc(CORPUS[3]["text"], gold=[0])),
]


NOTHING_HELD = HeldOutQueries()


def build_lists(cited=True, held=NOTHING_HELD, depth=3):
    return build_query_lists(CLAIMS, CORPUS, held, depth, cited)


def test_terms_are_stems_without_stop_words():
    assert index_terms("The Ships closed in it") == "ship clos"


def test_the_first_stage_is_bm25_over_title_and_text():
    """One term, in one of four documents: idf · tf / (tf + k1 · (1 - b + b · length / mean))."""
    sizes = [len(index_terms(f"{d['title']} {d['text']}").split()) for d in CORPUS]
    idf = math.log(1 + (4 - 1 + 0.5) / (1 + 0.5))
    norm = K1 * (1 - B + B * sizes[0] / (sum(sizes) / 4))
    ((docid, score),) = FirstStage(CORPUS).search("rusting?", 9)
    assert docid == "a"
    assert score == pytest.approx(idf / (1 + norm), abs=1e-4)
    (docid, twice) = FirstStage(CORPUS).search("pins", 9)[0]
    assert twice == pytest.approx(idf * 2 / (2 + norm), abs=1e-4)


def test_relevant_are_documents_with_gold_or_all_that_a_record_cites():
    cited, left = build_lists()
    assert [row["qrels"] for row in cited] == [{"b": 1}, {"c": 1, "a": 1}]
    assert (left.not_in_corpus, left.held_out, left.not_found) == (1, 0, 1)
    gold, left = build_lists(cited=False)
    assert [row["qrels"] for row in gold] == [{"c": 1}]
    assert left.not_in_corpus == 2
    assert all(len(row["candidates"]["bm25"]) <= 3 for row in cited)


@pytest.mark.parametrize(
    "held",
    [
        HeldOutQueries(relevant=frozenset({"a"})),
        HeldOutQueries(questions=frozenset({"ships came in summer."})),
    ],
)
def test_nothing_is_learnt_from_what_touches_a_held_out_query(held):
    found, left = build_lists(held=held)
    assert [row["qid"] for row in found] == ["1"]
    assert left.held_out == 1


def test_without_a_query_left_it_says_why():
    with pytest.raises(BadInput, match="1 have no relevant document"):
        build_query_lists(CLAIMS[2:3], CORPUS, HeldOutQueries(), 3, True)
    with pytest.raises(BadInput, match="corpus holds no document"):
        build_query_lists(CLAIMS, [], HeldOutQueries(), 3, True)


def test_the_command_writes_queries_that_rank_reads(tmp_path):
    files = write(tmp_path / "claims.jsonl", CLAIMS), write(tmp_path / "corpus.jsonl", CORPUS)
    held = write(tmp_path / "held.jsonl", [{"qid": "h", "query": "Other?", "qrels": {"b": 1}}])
    out = tmp_path / "lists.jsonl"
    done = tamis(
        *("lab", "probe", "lists", files[0], "--corpus", files[1], "--out", out),
        *("--without", held, "--cited", "--depth", "3"),
    )
    assert done.exit_code == 0, done.output
    assert "1 queries" in done.stderr
    assert "1 that touch" in done.stderr
    ((query,), system) = load_queries(out)
    assert (system, query.qid, set(query.qrels)) == ("bm25", "2", {"c", "a"})
    assert read(out)[0]["candidates"]["bm25"][0][0] == "c"


def test_files_that_are_none_are_refused_in_a_line(tmp_path):
    claims = write(tmp_path / "claims.jsonl", CLAIMS)
    bare = write(tmp_path / "corpus.jsonl", [{"text": "No name."}])
    for corpus, said in ((bare, "'docid' is needed"), (tmp_path / "none.jsonl", "cannot be read")):
        done = tamis(
            "lab", "probe", "lists", claims, "--corpus", corpus, "--out", tmp_path / "o.jsonl"
        )
        assert done.exit_code == 2
        assert said in done.stderr
    done = tamis(
        *("lab", "probe", "lists", claims, "--corpus", write(tmp_path / "c.jsonl", CORPUS)),
        *("--out", tmp_path / "no" / "o.jsonl", "--cited"),
    )
    assert done.exit_code == 2
    assert "cannot be written" in done.stderr
