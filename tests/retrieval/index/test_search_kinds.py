"""Approximate searches of an index: what they find, read, survive and refuse."""

from __future__ import annotations

import pickle
import shutil

import numpy as np
import pytest

from tamis.probes.errors import BadIndex, BadInput
from tamis.retrieval.approximate import segment_search
from tamis.retrieval.index import legs
from tamis.retrieval.index.legs import KeyShard, LocalShards
from tamis.retrieval.index.models import ChunkModels
from tamis.retrieval.index.store import CorpusIndex
from tamis.retrieval.index.writer import corpus_sentences, create_index, load_questions, open_writer
from tamis.retrieval.keys.encoder import KeyEncoder
from tamis.retrieval.storage.manifest import IndexSettings, Manifest
from tests.probes import tiny
from tests.probes.tiny import one_thread as one_thread
from tests.retrieval.index.corpora import build_index, make_documents
from tests.retrieval.keys.test_encoder import as_lists, recipe_for

QUESTION = "word1 word2 word3"
COUNT = 90


@pytest.fixture(scope="module")
def models() -> ChunkModels:
    proxy = tiny.proxy("llama")
    return ChunkModels(KeyEncoder(proxy, recipe_for(proxy)), None, ["word1 word2?", "word5?"])


@pytest.fixture(autouse=True)
def _small_limits(monkeypatch):
    """Limits of a corpus of some hundred keys."""
    monkeypatch.setattr(segment_search, "AUTO_KEYS", 400)
    monkeypatch.setattr(legs, "REFERENCE_CHUNKS", 24)
    monkeypatch.setattr(legs, "FEW_KEYS", 50)


@pytest.fixture(scope="module")
def built(tmp_path_factory, models):
    """The folder of an index of keys, in one segment, with a graph."""
    home = tmp_path_factory.mktemp("index") / "i"
    before = segment_search.AUTO_KEYS
    segment_search.AUTO_KEYS = 400
    try:
        _build(home, models)
    finally:
        segment_search.AUTO_KEYS = before
    return home


@pytest.fixture
def home(built, tmp_path):
    return shutil.copytree(built, tmp_path / "copy")


def _build(home, models, search="auto"):
    settings = IndexSettings(keys=as_lists(models.keys.recipe.as_json()))
    with create_index(home, settings, models, search=search) as writer:
        for part in np.array_split(np.array(make_documents(COUNT), dtype=object), 2):
            writer.put(list(part))
        writer.finish()


def opened(home, models) -> CorpusIndex:
    return CorpusIndex.open(home, proxy=models.keys.proxy)


def scores(hits):
    return {hit.id: hit.scores["keys"] for hit in hits}


def test_a_large_index_gets_a_graph_and_a_small_one_stays_exact(built, models, tmp_path):
    assert opened(built, models).stats()["searches"] == {"graph": 1}
    settings = IndexSettings(keys=as_lists(models.keys.recipe.as_json()))
    with create_index(tmp_path / "small", settings, models) as writer:
        writer.put(make_documents(2))
        writer.finish()
    assert opened(tmp_path / "small", models).stats()["searches"] == {"exact": 1}


def test_a_structure_that_was_asked_for_is_built_at_any_size(models, tmp_path):
    home = tmp_path / "i"
    settings = IndexSettings(keys=as_lists(models.keys.recipe.as_json()))
    with create_index(home, settings, models) as writer:
        writer.put(make_documents(3))
        writer.finish()
    with pytest.raises(BadInput, match="has no graph; build it with `tamis index optimise"):
        opened(home, models).search(QUESTION, search="graph")
    with open_writer(home, models) as writer:
        writer.optimise("graph")
    index = opened(home, models)
    assert index.stats()["searches"] == {"graph": 1}
    exact, found = (index.search(QUESTION, by=["keys"], search=how) for how in ("exact", "graph"))
    assert scores(found) == pytest.approx(scores(exact), rel=1e-4)


def test_a_chunk_that_is_found_has_the_score_of_an_exact_search(home, models, monkeypatch):
    with open_writer(home, models) as writer:
        writer.optimise("graph")
    index = opened(home, models)
    exact = index.search(QUESTION, COUNT, by=["keys"], search="exact")
    monkeypatch.setattr(legs, "CANDIDATES", 20)
    found = index.search(QUESTION, 5, by=["keys"], search="graph")
    assert [hit.id for hit in found] == [hit.id for hit in exact[:5]]
    for hit in found:
        assert hit.score == pytest.approx(scores(exact)[hit.id], rel=1e-4)
    assert exact.keys_read == index.stats()["tokens"]


def test_fused_with_words_the_first_hits_are_those_of_an_exact_search(home, models):
    index = opened(home, models)
    exact, found = (index.search(QUESTION, 10, search=how) for how in ("exact", "graph"))
    assert len({hit.id for hit in exact} & {hit.id for hit in found}) >= 9
    assert {hit.id for hit in found[:3]} == {hit.id for hit in exact[:3]}


def test_with_a_fitted_floor_no_search_reads_chunks_to_compare_with(home, models, monkeypatch):
    """And what BM25 adds weighs the same, whichever chunks were read."""
    read = []
    whole = KeyShard.best_of
    monkeypatch.setattr(legs, "CANDIDATES", 3)
    monkeypatch.setattr(legs, "OTHERS_DEPTH", 2)
    monkeypatch.setattr(
        KeyShard, "best_of", lambda self, q, own: read.append(own) or whole(self, q, own)
    )
    monkeypatch.setattr(KeyShard, "best_of_drawn", lambda *_: pytest.fail("chunks were drawn"))
    index = opened(home, models)
    exact = {hit.id: hit.score for hit in index.search(QUESTION, COUNT, search="exact")}
    assert not read
    found = index.search(QUESTION, 2, by=["keys"], search="graph")
    assert [len(own) for own in read] == [5]
    sizes = np.diff(index.segments[0].keys()[1])
    assert found.keys_read > sizes[read[0]].sum()  # lists and anchors of the floor count, too
    both = index.search(QUESTION, 2, search="graph")
    assert [hit.score for hit in both] == pytest.approx([exact[hit.id] for hit in both], rel=1e-4)


def test_without_training_queries_chunks_are_compared_with_drawn_ones(
    tmp_path, models, monkeypatch
):
    settings = IndexSettings(keys=as_lists(models.keys.recipe.as_json()))
    with create_index(tmp_path / "i", settings, models, search="exact") as writer:
        writer.put(make_documents(COUNT))
        writer.finish()
    with open_writer(tmp_path / "i") as writer:  # no model that could make training queries
        writer.optimise("graph")
    index = opened(tmp_path / "i", models)
    assert index.stats()["searches"] == {"graph": 1}
    exact, found = (
        index.search(QUESTION, 5, by=["keys"], search=how) for how in ("exact", "graph")
    )
    assert scores(found) == pytest.approx(scores(exact), rel=1e-4)
    with open_writer(tmp_path / "i", models) as writer:
        writer.optimise("graph")  # which now can fit what was missing
    monkeypatch.setattr(KeyShard, "best_of_drawn", lambda *_: pytest.fail("chunks were drawn"))
    assert opened(tmp_path / "i", models).search(QUESTION, 5, search="graph")


def test_conditions_deletions_and_additions_hold_in_every_search(home, models):
    late = make_documents(COUNT + 2, seed=3)[COUNT:]
    with open_writer(home, models) as writer:
        best = opened(home, models).search(QUESTION, 1, search="graph")[0].doc
        writer.delete([best])
        writer.put(late)
    index = opened(home, models)
    assert index.stats()["searches"] == {"graph": 1, "exact": 1}
    where = {"i": {">=": COUNT // 2}}
    for how in ("exact", "graph", "auto"):
        found = index.search(QUESTION, COUNT, search=how)
        assert best not in {hit.doc for hit in found}
        assert {document.id for document in late} <= {hit.doc for hit in found}
        few = index.search(QUESTION, 5, where, search=how)
        assert all(hit.metadata["i"] >= COUNT // 2 for hit in few)
        assert len(few) == 5


def test_shards_apart_give_the_hits_and_scores_of_shards_together(home, models, monkeypatch):
    """Every answer goes through pickle, as between the processes of a cluster."""
    with open_writer(home, models) as writer:
        writer.put(make_documents(COUNT + 30, seed=3)[COUNT:])
    together = opened(home, models)
    assert together.stats()["searches"] == {"graph": 1, "exact": 1}
    wanted = {how: together.search(QUESTION, 12, search=how) for how in ("exact", "auto")}
    whole = LocalShards.map

    def apart(self, task, *args):
        task, *args = pickle.loads(pickle.dumps((task, *args)))
        return pickle.loads(pickle.dumps(whole(self, task, *args)))

    monkeypatch.setattr(LocalShards, "map", apart)
    for how, hits in wanted.items():
        found = opened(home, models).search(QUESTION, 12, search=how)
        assert found == hits
        assert found.keys_read == hits.keys_read


def test_an_engine_that_there_is_not_is_refused(home):
    with pytest.raises(BadInput, match="choose from local, ray"):
        CorpusIndex.open(home, engine="spark")


def test_if_few_chunks_are_allowed_all_of_them_are_read(home, models, monkeypatch):
    monkeypatch.setattr(legs, "FEW_KEYS", 10_000)
    index = opened(home, models)
    where = ["i>=10", "i<40"]
    exact = index.search(QUESTION, 50, where, by=["keys"], search="exact")
    found = index.search(QUESTION, 50, where, by=["keys"], search="graph")
    assert len(exact) == 30
    assert scores(found) == pytest.approx(scores(exact), rel=1e-4)


def test_merging_builds_the_structure_of_the_merged_segment(home, models):
    with open_writer(home, models) as writer:
        writer.put(make_documents(COUNT + 20, seed=3)[COUNT:])
        writer.compact()
    index = opened(home, models)
    assert index.stats()["searches"] == {"graph": 1}
    assert index.verify() == []
    assert len(index.search(QUESTION, COUNT + 20, by=["keys"], search="exact")) == COUNT + 20


def test_without_a_model_a_merge_uses_the_training_queries_of_the_index(home, models):
    kept = Manifest.read(home).queries
    assert kept is not None
    with open_writer(home) as writer:
        writer.delete(["d1"])
        writer.compact()
    assert Manifest.read(home).queries == kept
    assert opened(home, models).stats()["searches"] == {"graph": 1}


def test_the_same_documents_make_the_same_graph(built, models, tmp_path):
    _build(tmp_path / "again", models)

    def graph(home):
        (entry,) = Manifest.read(home).segments
        return {f.path.split("/")[-1]: f.blake2b for f in entry.files if "graph" in f.path}

    assert graph(tmp_path / "again") == graph(built)
    assert len(graph(built)) == 12


def test_optimise_changes_the_structure_and_exact_takes_it_away(home, models):
    for kind, expected in (("exact", "exact"), ("auto", "graph")):
        with open_writer(home, models) as writer:
            writer.optimise(kind)
        assert opened(home, models).stats()["searches"] == {expected: 1}
        assert opened(home, models).verify() == []


def test_new_questions_make_new_training_queries(home, models):
    before = Manifest.read(home)
    with open_writer(home, models) as writer:
        writer.optimise()
        assert writer.manifest == before  # nothing to do
        writer.optimise(renew=True)
    assert Manifest.read(home).queries.path != before.queries.path
    assert not (home / before.queries.path).exists()


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"search": "ivf"}, "choose from auto, exact, graph"),
        ({"search": "graph", "by": ["bm25"]}, "is a search of keys"),
    ],
)
def test_a_search_that_the_index_has_not_is_refused_with_the_way_out(home, models, how, says):
    with pytest.raises(BadInput, match=says):
        opened(home, models).search(QUESTION, **how)


def test_an_index_of_words_has_no_graph(tmp_path):
    index = build_index(tmp_path / "i")
    assert index.search("harbour", search="exact").keys_read == 0
    with pytest.raises(BadInput, match="is a search of keys"):
        index.search("harbour", search="graph")


def test_a_damaged_structure_is_named_and_never_searched(home, models):
    for path in sorted(home.glob("segments/*/graph*.npy")):
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        index = opened(home, models)
        assert [fault.split(":")[0] for fault in index.verify()] == [
            path.relative_to(home).as_posix()
        ]
        with pytest.raises(BadIndex, match=path.name):
            index.search(QUESTION, search="graph")
        path.write_bytes(whole)


def test_training_sentences_are_parts_of_the_corpus_and_the_bank_is_of_questions(home, models):
    index = opened(home, models)
    texts = " ".join(hit.text for hit in index.search(QUESTION, COUNT, by=["keys"]))
    sentences = corpus_sentences(index.segments, 10)
    assert 5 <= len(sentences) <= 10
    assert all(sentence in texts for sentence in sentences)
    bank = load_questions()
    assert len(bank) > 80
    assert all(question.endswith("?") for question in bank)
