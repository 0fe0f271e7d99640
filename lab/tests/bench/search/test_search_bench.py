"""`tamis lab bench search`: its figures on a small index are those of counting by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tamis.probes.errors import BadInput
from tamis.retrieval.approximate.graph import GraphSearch
from tamis.retrieval.index.models import ChunkModels
from tamis.retrieval.index.store import CorpusIndex
from tamis.retrieval.index.writer import create_index
from tamis.retrieval.keys.encoder import KeyEncoder
from tamis.retrieval.keys.late_interaction import SCALE
from tamis.retrieval.storage.manifest import IndexSettings
from tamis_lab.bench import search
from tamis_lab.bench.search import (
    KeptBuilds,
    SearchRun,
    build_searches,
    extend_corpus,
    index_corpus,
    load_asked,
    search_charts,
    time_growth,
)
from tamis_lab.options.figures import draw_charts
from tests.probes import tiny
from tests.probes.tiny import one_thread as one_thread
from tests.retrieval.index.corpora import make_documents
from tests.retrieval.keys.test_encoder import as_lists, recipe_for
from tests.service.cli.cli_kit import tamis


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> CorpusIndex:
    home = tmp_path_factory.mktemp("bench") / "i"
    proxy = tiny.proxy("llama")
    models = ChunkModels(KeyEncoder(proxy, recipe_for(proxy)))
    settings = IndexSettings(keys=as_lists(models.keys.recipe.as_json()))
    with create_index(home, settings, models) as writer:
        writer.put(make_documents(60))
        writer.finish()
    return CorpusIndex.open(home, proxy=proxy)


def test_drawn_chunks_are_like_those_of_the_index(index, tmp_path):
    real = index_corpus(index)
    more = extend_corpus(real, 4 * len(real.keys), 2, tmp_path / "k.npy")
    assert abs(len(more.keys) - 4 * len(real.keys)) < np.diff(real.starts).max() + 1
    assert (more.keys[: len(real.keys)] == real.keys).all()
    assert set(np.diff(more.starts)) <= set(np.diff(real.starts))
    drawn = more.keys[len(real.keys) :].reshape(-1, 2, 16).astype(float) / SCALE
    assert np.linalg.norm(drawn, axis=-1) == pytest.approx(1, abs=0.05)
    again = extend_corpus(real, 4 * len(real.keys), 2, tmp_path / "again.npy")
    assert (again.keys == more.keys).all()


def test_a_corpus_is_cut_at_a_chunk(index):
    whole = index_corpus(index)
    half = index_corpus(index, len(whole.keys) // 2)
    assert len(half.keys) <= len(whole.keys) // 2
    assert len(half.keys) == half.starts[-1] == half.real_keys


def test_the_report_has_every_system_at_every_size_and_both_plots(index, tmp_path):
    tokens = index.stats()["tokens"]
    asked = [("word1 word2", {"d1": 1.0}), ("word3", {"d2": 1.0, "gone": 1.0})]
    steps = []
    report = SearchRun(index, asked, [tokens, 3 * tokens], ["graph", "ivf", "hnsw"], True).report(
        lambda *step: steps.append(step)
    )
    assert [row["real_tokens"] for row in report["sizes"]] == [tokens, tokens]
    for row in report["sizes"]:
        exact = row["systems"]["exact"]
        assert (exact["recall_at_10"], exact["keys_read"]) == (1.0, 1.0)
        assert 0 <= row["systems"]["bm25"]["recall_at_10"] <= 1
        for kind in ("graph", "ivf", "hnsw"):
            assert row["systems"][kind]["recall_at_10"] >= 0.9  # a small corpus is found whole
            assert row["systems"][kind]["ndcg_at_10"] == pytest.approx(exact["ndcg_at_10"], abs=0.2)
            assert [point["effort"] for point in row["curves"][kind]] == [0.25, 0.5, 1, 2, 4]
    assert set(report["growth"]) == {"exact", "graph", "ivf", "hnsw"}
    assert sum(done for what, done, _ in steps if what == "questions") == 2
    draw_charts(search_charts(report), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_that_was_cut_short_goes_on_with_what_it_built(index, tmp_path, monkeypatch):
    tokens = index.stats()["tokens"]
    kept = KeptBuilds(tmp_path / "kept", index, 2)
    training = kept.training(lambda: np.ones((4, 32), np.float32))
    assert (kept.training(lambda: pytest.fail("made twice")) == training).all()

    def build() -> dict[str, float]:
        corpus, folder = kept.corpus(3 * tokens)
        searches, costs = build_searches(
            "graph", GraphSearch, corpus, training, 2, folder, lambda keys: None
        )
        assert len(searches) == 2
        return costs

    first = build()
    assert first["bytes_a_token"] > 0
    head = next((tmp_path / "kept").glob("*/graph1.json"))
    head.unlink()  # cut short before the second head was done
    heads = []
    whole = GraphSearch.build
    monkeypatch.setattr(
        GraphSearch, "build", staticmethod(lambda *args: heads.append(1) or whole(*args))
    )
    monkeypatch.setattr(search, "extend_corpus", lambda *args: pytest.fail("drawn twice"))
    assert build()["bytes_a_token"] == first["bytes_a_token"]
    assert len(heads) == 1


def test_a_folder_of_another_index_is_refused(index, tmp_path):
    tokens = index.stats()["tokens"]
    _, folder = KeptBuilds(tmp_path, index, 2).corpus(tokens)
    (folder / "source.json").write_text('{"index": "elsewhere", "segments": []}')
    with pytest.raises(BadInput, match="another index"):
        KeptBuilds(tmp_path, index, 2).corpus(tokens)


def test_chunks_can_be_drawn_beyond_a_part_of_the_index(index, tmp_path):
    tokens = index.stats()["tokens"]
    drawn, _ = KeptBuilds(tmp_path, index, 2, drawn_beyond=tokens // 2).corpus(tokens)
    real, _ = KeptBuilds(tmp_path, index, 2).corpus(tokens)
    assert drawn.real_keys <= tokens // 2
    assert abs(len(drawn.keys) - len(real.keys)) < np.diff(real.starts).max() + 1
    assert real.real_keys == tokens


def test_growth_is_the_slope_of_time_over_size_in_logarithms():
    assert time_growth([10, 100, 1000], [1, 10, 100]) == pytest.approx(1)
    assert time_growth([10, 1000], [1, 10]) == pytest.approx(0.5)
    assert time_growth([10], [1]) is None


def test_questions_are_rows_with_grades_or_lines(tmp_path):
    rows = tmp_path / "q.jsonl"
    lines = [{"query": f"q{i}", "qrels": {"a": 1}} for i in range(5)]
    rows.write_text("\n".join(map(json.dumps, lines)))
    assert load_asked(rows, 2) == [("q0", {"a": 1.0}), ("q2", {"a": 1.0})]
    (tmp_path / "q.txt").write_text("one?\n\ntwo?\n")
    assert load_asked(tmp_path / "q.txt", 9) == [("one?", {}), ("two?", {})]
    rows.write_text('{"id": 1}')
    with pytest.raises(BadInput, match="'query' or a 'question'"):
        load_asked(rows, 2)


@pytest.mark.parametrize(
    ("words", "says"),
    [(["--structures", "tree"], "choose from"), (["--sizes", "big"], "whole numbers")],
)
def test_what_cannot_be_measured_is_one_line_and_exit_code_2(index, tmp_path, words, says):
    (tmp_path / "q.txt").write_text("one?")
    run = tamis("lab", "bench", "search", index.folder, "--questions", tmp_path / "q.txt", *words)
    assert run.exit_code == 2
    assert says in run.stderr
