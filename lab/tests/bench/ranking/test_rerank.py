"""`tamis lab bench rerank`: figures worked out by hand, runs that go on, files that are refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch

from lab.tests.bench.records import read, write
from tamis.compressors import registry
from tamis.compressors.methods.fusion import Fusion
from tamis.compressors.pipeline.reranking import Reranker
from tamis.compressors.types import Ranks
from tamis.probes.errors import BadInput
from tamis_lab.bench import rerank as bench
from tamis_lab.bench.study import Study
from tamis_lab.datasets.qrels import load_corpus, load_queries
from tamis_lab.datasets.ranking_metrics import ndcg, recall
from tests.compressors.features.test_rank_probe import rank_probe
from tests.laws.methods import question_probe, scripted_reader
from tests.service.cli.cli_kit import tamis

DOCS = [
    {"docid": "a", "title": "Bread", "text": "Bread was cheap."},
    {"docid": "b", "title": "", "text": "The harbour of Malo was closed."},
    {"docid": "c", "title": "Ships", "text": "Ships came to the harbour."},
    {"docid": "d", "title": "", "text": "Nobody knew."},
]
QUERIES = [
    {
        "qid": f"q{i}",
        "query": "When was the harbour of Malo closed?",
        "qrels": {"b": 1, "z": 1, "a": 0},
        "candidates": {"bm25": [["a", 3.0], ["c", 2.0], ["b", 1.5], ["d", 1.0]]},
    }
    for i in range(3)
]


@pytest.fixture
def files(tmp_path):
    return write(tmp_path / "queries.jsonl", QUERIES), write(tmp_path / "corpus.jsonl", DOCS)


class FixedRanker:
    """A ranker whose values are a function of the passages."""

    def __init__(self, rank_passages):
        self.rank_passages = rank_passages

    def rank(self, question, passages, units):
        return self.rank_passages(passages)


def run(files, *words):
    return tamis(
        "lab",
        "bench",
        "rerank",
        files[0],
        "--corpus",
        files[1],
        "--method",
        "lexical",
        "--no-minilm",
        *words,
    )


def test_ndcg_and_recall_are_those_of_trec_eval():
    """Relevant at ranks 2 and 4, a third never found: 1/log2 3 + 1/log2 5 of the ideal."""
    qrels = {"b": 1.0, "d": 1.0, "z": 1.0}
    ideal = 1 + 1 / math.log2(3) + 1 / 2
    got = 1 / math.log2(3) + 1 / math.log2(5)
    assert ndcg(["a", "b", "c", "d"], qrels) == pytest.approx(got / ideal)
    assert ndcg(["a", "b", "c", "d"], qrels, 3) == pytest.approx(1 / math.log2(3) / ideal)
    assert ndcg(["x", "y"], {"x": 2.0, "y": 1.0}) == 1
    assert ndcg(["y", "x"], {"x": 2.0, "y": 1.0}) == pytest.approx(
        (1 + 2 / math.log2(3)) / (2 + 1 / math.log2(3))
    )
    assert recall(["a", "b", "c"], qrels, 2) == pytest.approx(1 / 3)


def test_rankings_hold_every_candidate_those_below_the_depth_as_they_were(files, tmp_path):
    out = tmp_path / "rankings.jsonl"
    done = run(files, "--depth", 3, "--fuse", "none", "--out", out)
    assert done.exit_code == 0, done.stderr
    rows = read(out)
    assert [row["qid"] for row in rows] == ["q0", "q1", "q2"]
    assert rows[0]["ranking"] == ["b", "c", "a", "d"]
    fused = tmp_path / "fused.jsonl"
    assert run(files, "--depth", 3, "--fuse", 0, "--out", fused).exit_code == 0
    assert read(fused)[0]["ranking"] == ["a", "c", "b", "d"]


def test_an_interrupted_run_is_resumed_and_other_settings_are_refused(files, tmp_path):
    out = tmp_path / "rankings.jsonl"
    assert run(files, "--limit", 1, "--out", out).exit_code == 0
    first = out.read_text("utf8")
    out.write_text(first + '{"qid": "q1", "rank', "utf8")
    assert run(files, "--out", out).exit_code == 0
    assert out.read_text("utf8").startswith(first)
    assert [row["qid"] for row in read(out)] == ["q0", "q1", "q2"]
    other = run(files, "--depth", 2, "--out", out)
    assert other.exit_code == 2
    assert "depth 30 (now 2)" in other.stderr


@pytest.mark.parametrize("spoil", [{"own": None}, {"own": [1.0]}, {"ms": ...}, {"calibrated": ...}])
def test_a_stored_line_of_another_run_is_refused(files, tmp_path, spoil):
    out = tmp_path / "rankings.jsonl"
    assert run(files, "--out", out).exit_code == 0
    rows = read(out)
    rows[1] = {k: v for k, v in (rows[1] | spoil).items() if v is not ...}
    write(out, rows)
    done = run(files, "--out", out)
    assert done.exit_code == 2
    assert "the line of q1 is none of this run" in done.stderr


def test_an_invalid_weight_is_refused_before_anything_is_read(files, tmp_path):
    done = run(files, "--fuse", "2", "--out", tmp_path / "rankings.jsonl")
    assert done.exit_code == 2
    assert "fuse is 2.0; give 'rrf', 'fitted', or a weight" in done.stderr
    assert not (tmp_path / "rankings.jsonl").exists()


def test_a_byte_order_mark_is_not_part_of_the_first_line(files):
    files[0].write_bytes(b"\xef\xbb\xbf" + files[0].read_bytes())
    assert run(files).exit_code == 0


def test_json_has_alone_and_fused_with_intervals_and_costs(files):
    report = json.loads(run(files, "--json", "--fuse", "rrf").stdout)
    systems = report["systems"]
    assert set(systems) == {"bm25", "lexical", "lexical+bm25"}
    ideal = 1 + 1 / math.log2(3)
    assert systems["lexical"]["ndcg@10"] == pytest.approx(1 / ideal)
    assert systems["bm25"]["ndcg@10"] == pytest.approx(0.5 / ideal)
    ahead = systems["bm25"]["ahead"]["lexical"]
    assert ahead["low"] == pytest.approx(ahead["high"]) == pytest.approx(0.5 / ideal)
    assert report["median"]["tokens_read"] == 0
    assert "lexical+bm25" in run(files).stdout


def test_the_method_ranks_each_query_once_and_the_peer_encodes_each_text_once(files):
    queries, system = load_queries(files[0])
    corpus = load_corpus(files[1], ["a", "b", "c", "d"])

    texts_encoded = []

    class Encoder:
        def encode(self, texts):
            texts_encoded.extend(texts)
            return torch.tensor([[1.0, len(text)] for text in texts])

    peer = bench.DocumentCosine(Encoder(), corpus, 3)
    settings = bench.RerankSettings("x", 3, "rrf", system, "none")
    ranker = Reranker(FixedRanker(lambda ps: Ranks(tuple(float(len(p.text)) for p in ps))), "x")
    rows = bench.rerank_queries(queries, corpus, ranker, settings, Study())
    found = bench.system_rankings(queries, rows, settings, peer)
    assert list(found) == ["bm25", "minilm", "minilm+bm25", "x", "x+bm25"]
    assert len(texts_encoded) == 4
    assert "Bread\nBread was cheap." in texts_encoded


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda q, d: q[0].pop("qrels"), "no query with candidates"),
        (lambda q, d: q[0].update(qid="q1"), "same 'qid'"),
        (lambda q, d: q[0].update(query=" "), "query is empty"),
        (lambda q, d: q[0]["candidates"].update(other=[]), "choose one with --first"),
        (lambda q, d: q[0]["candidates"]["bm25"].append(["a", 0]), "twice"),
        (lambda q, d: q[0]["candidates"]["bm25"].append(["d2", math.nan]), "not finite"),
        (lambda q, d: q[0]["qrels"].update(b=math.inf), "not finite"),
        (lambda q, d: q[0]["candidates"]["bm25"].append(["d2", 10**400]), "no query with"),
        (lambda q, d: d.pop(), "not in"),
        (lambda q, d: d.append(d[0]), "document 'a' is there twice"),
        (lambda q, d: d[0].pop("text"), "'docid' and 'text'"),
    ],
)
def test_files_that_cannot_be_used_are_refused_by_row(tmp_path, spoil, message):
    queries, docs = json.loads(json.dumps([QUERIES, DOCS]))
    spoil(queries, docs)
    files = write(tmp_path / "q.jsonl", queries), write(tmp_path / "c.jsonl", docs)
    with pytest.raises(BadInput, match=message):
        _load_files(*files)
    done = run(files)
    assert done.exit_code == 2
    assert "Traceback" not in done.stderr


def _load_files(queries, corpus):
    loaded, _ = load_queries(queries)
    return load_corpus(corpus, [d for query in loaded for d, _ in query.candidates])


def test_a_document_without_a_score_comes_last_and_its_line_is_json(files):
    queries, held = load_queries(files[0])[0], _load_files(*files)
    settings = bench.RerankSettings("lexical", 4, None, "bm25", "nobody", {})
    ranks = Ranks((0.5, -math.inf, 0.7, 0.1))
    row = bench.result_row(
        queries[0], held, Reranker(FixedRanker(lambda ps: ranks), "lexical"), settings
    )
    line = json.dumps(row, allow_nan=False)
    assert row["own"] == [0.5, None, 0.7, 0.1]
    assert row["ranking"] == ["b", "a", "d", "c"]
    found = bench.system_rankings(queries[:1], {"q0": json.loads(line)}, settings, None)
    assert found["lexical"] == [["b", "a", "d", "c"]]


@pytest.mark.parametrize("with_rank_probe", [False, True])
def test_readings_are_kept_for_the_next_probe_and_their_time_is_reported(
    files, tmp_path, monkeypatch, with_rank_probe
):
    reader = scripted_reader()
    reader.dtype = torch.float32
    monkeypatch.setattr(registry, "load_proxy", lambda *_: reader)
    queries, _ = load_queries(files[0])
    corpus = load_corpus(files[1], ["a", "b", "c", "d"])
    settings = bench.RerankSettings("question_rows", 4, None, "bm25", "scripted")
    probe = question_probe(reader)
    ranks = rank_probe(reader) if with_rank_probe else None

    def ranked(given):
        options = {"probe": given, "rank_probe": ranks}
        kept = bench.storing_reranker("question_rows", "scripted", options, tmp_path / "readings")
        return bench.rerank_queries(queries[:1], corpus, kept, settings, Study()).values()

    (first,) = ranked(probe)
    read = reader.prompts_read
    assert read
    (again,) = ranked(probe)
    (other,) = ranked(question_probe(reader, seed=1))
    assert reader.prompts_read == read
    assert again["own"] == first["own"] != other["own"]
    assert again["tokens_read"] == first["tokens_read"]
    given = {"probe": probe, "rank_probe": ranks, "use_encoder": False}
    part = registry.build_method("question_rows", proxy=reader, **given)
    monkeypatch.setattr(registry, "build_method", lambda *_, **__: Fusion({"attention": part}))
    fusion = bench.storing_reranker("fusion", "scripted", {}, tmp_path / "readings")
    (summed,) = bench.rerank_queries(
        queries[:1], corpus, fusion, replace(settings, method="fusion"), Study()
    ).values()
    assert reader.prompts_read == read
    assert summed["ranking"] == first["ranking"]


def test_a_method_that_keeps_no_readings_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "load_proxy", lambda *_: scripted_reader())
    with pytest.raises(BadInput, match="keeps no readings"):
        bench.storing_reranker("icr", "scripted", {}, tmp_path / "readings")
