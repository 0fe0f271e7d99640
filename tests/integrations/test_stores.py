"""`tamis index export` and `open_store`, with LanceDB embedded and Qdrant in its local mode."""

from __future__ import annotations

import os
from itertools import pairwise

import numpy as np
import pytest

import tamis
from tamis.probes.errors import BadInput
from tamis.retrieval.index.models import ChunkModels
from tamis.retrieval.index.store import CorpusIndex
from tamis.retrieval.index.writer import create_index, open_writer
from tamis.retrieval.keys.encoder import KeyEncoder
from tamis.retrieval.storage.manifest import IndexSettings
from tamis.retrieval.stores import search
from tamis.retrieval.stores.engines import open_engine
from tamis.retrieval.stores.search import StoreIndex
from tests.probes import tiny
from tests.retrieval.index.corpora import make_documents
from tests.retrieval.keys.test_encoder import as_lists, recipe_for
from tests.service.cli.cli_kit import tamis as command

ENGINE = os.environ.get("TAMIS_INTEGRATION", "lancedb")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
pytest.importorskip({"lancedb": "lancedb", "qdrant": "qdrant_client"}[ENGINE])
QUESTION = "word1 word2 word3"
COUNT = 80


@pytest.fixture(scope="module")
def proxy():
    return tiny.proxy("llama")


@pytest.fixture(scope="module")
def index(tmp_path_factory, proxy):
    """An index of keys in two segments, without a document that was deleted."""
    home = tmp_path_factory.mktemp("index") / "i"
    models = ChunkModels(KeyEncoder(proxy, recipe_for(proxy)))
    settings = IndexSettings(keys=as_lists(models.keys.recipe.as_json()))
    with create_index(home, settings, models) as writer:
        writer.put(make_documents(COUNT))
        writer.finish()
    with open_writer(home, models) as writer:
        writer.put(make_documents(COUNT + 20, seed=3)[COUNT:])
        writer.delete(["d7"])
    return CorpusIndex.open(home, proxy=proxy)


@pytest.fixture
def exported(index, tmp_path):
    run = command("index", "export", index.folder, tmp_path / "store", "--to", ENGINE)
    assert run.exit_code == 0, run.stderr
    assert f"{len(index):,} chunks" in run.stderr
    return tmp_path / "store"


@pytest.fixture
def store(exported, proxy):
    opened = tamis.open_store(ENGINE, exported, proxy=proxy)
    yield opened
    opened.close()


def rows(hits):
    return [(hit.id, hit.doc, hit.text, hit.start, hit.stop, dict(hit.metadata)) for hit in hits]


def test_hits_spans_and_scores_are_those_of_the_exact_search_by_keys(index, store):
    assert len(store) == len(index) == COUNT + 19
    for question in (QUESTION, "word5?", "word9 word30 word31 word32 word33"):
        wanted = index.search(question, 15, by=["keys"], search="exact")
        found = store.search(question, 15)
        assert rows(found) == rows(wanted)
        scores = [hit.score for hit in wanted]
        assert [hit.score for hit in found] == pytest.approx(scores, rel=1e-4)


def test_conditions_hold_however_few_chunks_meet_them(index, store, monkeypatch):
    monkeypatch.setattr(search, "PROPOSALS", 4)
    where = ["i>=10", "i<14"]
    wanted = index.search(QUESTION, 4, where, by=["keys"], search="exact")
    assert len(wanted) == 4
    assert rows(store.search(QUESTION, 4, where)) == rows(wanted)
    assert store.search(QUESTION, 4, "i>1000") == []


def test_the_engine_proposes_what_the_exact_search_ranks_first(index, store, monkeypatch):
    """With a fifth of the chunks as candidates, most of the first ones are there."""
    monkeypatch.setattr(search, "PROPOSALS", 20)
    wanted = {hit.id for hit in index.search(QUESTION, 5, by=["keys"], search="exact")}
    found = store.search(QUESTION, 5)
    assert len(wanted & {hit.id for hit in found}) >= 4
    assert found.keys_read < 2 * index.stats()["tokens"]


def test_the_engine_adds_up_the_best_inner_products(index, exported):
    """Its own ranking, against that of numpy."""
    engine = open_engine(ENGINE, exported)
    keys, starts = index.key_arrays()[0]
    width = keys.shape[1] // 2
    queries = np.random.default_rng(0).normal(size=(3, width)).astype(np.float32)
    assert index.segments[0].live.sum() == len(starts) - 2
    own = [np.asarray(keys[a:b, :width]) for a, b in pairwise(starts)]
    live = np.flatnonzero(index.segments[0].live)
    sums = [(queries @ own[c].astype(np.float32).T).max(1).sum() for c in live]
    ranked = [number for number in engine.nearest(0, queries, 200) if number < len(live)]
    assert sorted(ranked) == list(range(len(live)))
    assert [sums[n] for n in ranked] == pytest.approx(sorted(sums, reverse=True), abs=0.1)
    one = engine.nearest(0, queries[:1], 200)
    engine.close()
    assert sorted(one) == list(range(len(index)))


def test_an_export_is_not_replaced_unasked_and_half_of_one_is_none(index, exported, monkeypatch):
    run = command("index", "export", index.folder, exported, "--to", ENGINE)
    assert (run.exit_code, "--overwrite" in run.stderr) == (2, True)

    def cut_short(*args):
        yield next(whole(*args))
        raise KeyboardInterrupt

    whole = search._batches
    monkeypatch.setattr(search, "_batches", cut_short)
    engine = open_engine(ENGINE, exported)
    with pytest.raises(KeyboardInterrupt):
        search.export_index(index, engine, overwrite=True)
    assert engine.read_header() is None
    with pytest.raises(BadInput, match="cut short"):
        StoreIndex(engine, index.models)
    monkeypatch.undo()
    search.export_index(index, engine)
    assert len(StoreIndex(engine, index.models).search(QUESTION, 3)) == 3
    engine.close()


@pytest.mark.skipif(ENGINE != "qdrant", reason="LanceDB takes any number of clients")
def test_a_folder_that_another_client_holds_is_named(store, exported):
    with pytest.raises(BadInput, match="one client at a time"):
        tamis.open_store(ENGINE, exported)


def test_the_retriever_of_langchain_takes_a_store(store):
    from tamis.langchain import TamisRetriever

    retriever = TamisRetriever(store=store, k=4, method="lexical", ratio=1.0)
    hits = store.search(QUESTION, 4)
    documents = retriever.invoke(QUESTION)
    assert {document.id for document in documents} <= {hit.id for hit in hits}
    assert {"start", "stop", "score"} <= documents[0].metadata["hit"].keys()


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"question": " "}, "the question is empty"),
        ({"question": "word1", "k": 0}, "at least 1"),
        ({"question": "word1", "search": "graph"}, "as its engine does"),
    ],
)
def test_what_a_store_cannot_do_is_refused(store, how, says):
    with pytest.raises(BadInput, match=says):
        store.search(**how)
