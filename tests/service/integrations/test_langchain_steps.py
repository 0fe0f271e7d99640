"""tamis as a step of LangChain: transformer, cross encoder, retriever, chains."""

from __future__ import annotations

import asyncio
import math

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import RunnableLambda, RunnablePassthrough

import tamis
from tamis.probes.errors import BadInput
from tamis.retrieval.index.store import CorpusIndex
from tamis.retrieval.index.writer import create_index, open_writer
from tamis.retrieval.storage.manifest import IndexSettings
from tamis.service.integrations.langchain import (
    TamisCompressor,
    TamisCrossEncoder,
    TamisDocumentTransformer,
    TamisRetriever,
)
from tamis.text.types import CorpusDocument as IndexDocument
from tests.service.integrations.adapter_kit import ASKED, PIN, TEXTS, WORDS
from tests.service.integrations.langchain_kit import Fixed, documents


def test_a_transformer_takes_its_query_from_the_call_the_document_or_the_constructor(free):
    fields = {"max_tokens": WORDS, **free}
    by_call = TamisDocumentTransformer(query="What about straw?", **fields)
    assert [d.page_content for d in by_call.transform_documents(documents(), query=ASKED)] == [PIN]
    assert "id-2" in [d.id for d in by_call.transform_documents(documents())]
    assert "id-1" not in [d.id for d in by_call.transform_documents(documents())]
    own = documents()
    own[1].metadata["query"] = ASKED
    own[2].metadata["query"] = "Is there straw?"
    kept = TamisDocumentTransformer(**fields).transform_documents(own[1:])
    assert [(d.page_content, d.id) for d in kept] == [(PIN, "id-1"), (TEXTS[2], "id-2")]
    assert kept == asyncio.run(TamisDocumentTransformer(**fields).atransform_documents(own[1:]))


def test_a_transformer_without_a_query_says_so_and_names_the_three_ways(free):
    lone = TamisDocumentTransformer(max_tokens=WORDS, **free)
    with pytest.raises(BadInput, match=r"document 0 of 3 has no query; .*metadata\['query'\]"):
        lone.transform_documents(documents())
    with pytest.raises(BadInput, match="has no query"):
        lone.transform_documents(documents(), quest=ASKED)
    assert lone.transform_documents([]) == []


def test_a_cross_encoder_scores_every_pair_in_order_and_reads_a_query_s_texts_once(looking):
    looking.pop("tokenizer")
    encoder = TamisCrossEncoder(**looking)
    pairs = [(ASKED, TEXTS[0]), ("Is there straw?", TEXTS[2]), (ASKED, TEXTS[1])]
    scores = encoder.score(pairs)
    assert scores[2] > scores[0]
    assert all(type(score) is float for score in scores)
    assert scores == asyncio.run(encoder.ascore(pairs))
    ranked = tamis.rerank(ASKED, [TEXTS[0], TEXTS[1]], proxy=looking["proxy"], probe=None)
    logits = {result.index: result.own for result in ranked.results}
    sigmoid = [1 / (1 + math.exp(-logits[i])) for i in (0, 1)]
    assert [scores[0], scores[2]] == pytest.approx(sigmoid)
    assert encoder.score([]) == []


def test_a_retriever_goes_around_any_other_and_is_a_step_of_a_chain(looking):
    retriever = TamisRetriever(retriever=Fixed(found=documents()), max_tokens=WORDS, **looking)
    assert [d.id for d in retriever.invoke(ASKED)] == ["id-1"]
    assert asyncio.run(retriever.ainvoke(ASKED)) == retriever.invoke(ASKED)
    chain = retriever | RunnableLambda(lambda found: found[0].page_content)
    assert chain.invoke(ASKED) == PIN


def test_the_inner_retriever_s_run_is_a_child_of_the_outer_one(free):
    runs = []

    class Tracer(BaseCallbackHandler):
        def on_retriever_start(self, serialized, query, *, run_id, parent_run_id=None, **_):
            runs.append((run_id, parent_run_id))

    retriever = TamisRetriever(retriever=Fixed(found=documents()), max_tokens=WORDS, **free)
    retriever.invoke(ASKED, {"callbacks": [Tracer()]})
    (outer, none), (_, parent) = runs
    assert (none, parent) == (None, outer)


def test_a_retriever_needs_one_origin(free):
    for both in ({}, {"retriever": Fixed(found=[]), "index": "folder"}):
        with pytest.raises(ValueError, match="give a retriever or an index"):
            TamisRetriever(max_tokens=WORDS, **both, **free)


def test_a_retriever_looks_at_no_more_documents_than_asked_for(free):
    fields = {"retriever": Fixed(found=documents()), "ratio": 1.0, **free}
    for retriever, asked, count in [
        (TamisRetriever(**fields), {}, 3),
        (TamisRetriever(k=1, **fields), {}, 1),
        (TamisRetriever(k=1, **fields), {"k": 2}, 2),
    ]:
        assert [d.id for d in retriever.invoke(ASKED, **asked)] == [f"id-{n}" for n in range(count)]
        assert asyncio.run(retriever.ainvoke(ASKED, **asked)) == retriever.invoke(ASKED, **asked)
    with pytest.raises(BadInput, match="k is 0; give"):
        TamisRetriever(**fields).invoke(ASKED, k=0)


@pytest.fixture
def corpus(tmp_path):
    settings = IndexSettings()
    with create_index(tmp_path / "index", settings) as writer:
        metadata = {"tags": ["farm"]}
        writer.put([IndexDocument("farm", TEXTS[1], "Of barns", metadata)])
        writer.put([IndexDocument("fields", TEXTS[2])])
        writer.finish()
    return tmp_path / "index"


def test_a_retriever_finds_in_an_index_and_says_where_each_passage_stands(corpus, free):
    fields = {"max_tokens": WORDS, "title_key": "title", **free}
    for index in (str(corpus), corpus, CorpusIndex.open(corpus)):
        retriever = TamisRetriever(index=index, k=1, **fields)
        (kept,) = retriever.invoke(ASKED)
        assert kept.page_content == PIN
        hit = kept.metadata["hit"]
        assert (hit["doc"], TEXTS[1][hit["start"] : hit["end"]]) == ("farm", TEXTS[1])
        assert (kept.metadata["title"], kept.metadata["tags"]) == ("Of barns", ["farm"])
        assert hit["keys_read"] == 0  # an index of words
        assert asyncio.run(retriever.ainvoke(ASKED)) == [kept]
    kept = TamisRetriever(index=corpus, ratio=1.0, **free)
    assert [len(kept.invoke("hay", **asked)) for asked in ({"k": 1}, {})] == [1, 2]


def test_a_retriever_searches_as_it_was_told_to(corpus, free):
    retriever = TamisRetriever(index=corpus, max_tokens=100, search="graph", **free)
    with pytest.raises(BadInput, match="is a search of keys"):
        retriever.invoke(ASKED)


def test_a_retriever_sees_what_came_into_its_index_since(corpus, free):
    retriever = TamisRetriever(index=corpus, max_tokens=100, **free)
    assert retriever.invoke("goat") == []
    with open_writer(corpus) as writer:
        writer.put([IndexDocument("goat", "A goat lives there.")])
        writer.finish()
    assert [d.page_content for d in retriever.invoke("goat")] == ["A goat lives there."]


def test_a_compressor_is_a_step_of_a_chain(free):
    step = TamisCompressor(max_tokens=WORDS, **free).as_runnable()
    retriever = Fixed(found=documents())
    chain = {"documents": retriever, "question": RunnablePassthrough()} | step
    assert [d.page_content for d in chain.invoke(ASKED)] == [PIN]
    assert asyncio.run(chain.ainvoke(ASKED)) == chain.invoke(ASKED)
    with pytest.raises(BadInput, match="no question, and was given query, documents"):
        step.invoke({"query": ASKED, "documents": documents()})


@pytest.mark.model
def test_the_default_proxy_keeps_the_answer_and_scores_its_document_highest(proxy_folder):
    fields = {"proxy": str(proxy_folder), "max_tokens": 12, "always_score": True}
    kept = TamisCompressor(**fields).compress_documents(documents(), ASKED)
    best = max(kept, key=lambda d: d.metadata["evidence_score"])
    assert best.id == "id-1"
    assert PIN in best.page_content
    scores = TamisCrossEncoder(proxy=str(proxy_folder)).score([(ASKED, text) for text in TEXTS])
    assert max(range(3), key=scores.__getitem__) == 1
    assert all(0 <= score <= 1 for score in scores)


def test_a_transformer_passes_over_words_of_the_call_that_are_for_others(free):
    made = TamisDocumentTransformer(max_tokens=WORDS, **free)
    kept = made.transform_documents(documents(), query=ASKED)
    assert made.transform_documents(documents(), query=ASKED, foo=1) == kept
    later = made.atransform_documents(documents(), query=ASKED, foo=1)
    assert asyncio.run(later) == kept


def test_a_text_without_words_scores_0_and_every_score_is_a_number_from_0_to_1(looking):
    looking.pop("tokenizer")
    pairs = [(ASKED, PIN), (ASKED, ""), ("third?", ""), (ASKED, " \n")]
    encoder = TamisCrossEncoder(**looking)
    scores = encoder.score(pairs)
    assert scores[1:] == [0.0, 0.0, 0.0]
    assert 0 < scores[0] <= 1
    assert asyncio.run(encoder.ascore(pairs)) == scores


def test_a_retriever_closes_the_states_that_it_opened_and_no_others(corpus, free, monkeypatch):
    closed, close = [], CorpusIndex.close
    monkeypatch.setattr(CorpusIndex, "close", lambda index: (closed.append(index), close(index)))
    given = CorpusIndex.open(corpus)
    fields = {"max_tokens": 100, **free}
    own, theirs = (TamisRetriever(index=index, **fields) for index in (corpus, given))
    for name in ("goat", "hen"):
        for retriever in (own, theirs):
            retriever.invoke(name)
        with open_writer(corpus) as writer:
            writer.put([IndexDocument(name, f"A {name} lives there.")])
            writer.finish()
        for retriever in (own, theirs):
            assert [d.id for d in retriever.invoke(name)]
    assert given not in closed
    assert len(closed) == 2 + 1  # two states of the folder's, and the one after the given
    assert given.search("goat") == []


def test_a_retriever_searches_an_index_that_is_empty_at_first(corpus, free):
    """Such an index is false, as every empty container is, and an index all the same."""
    with open_writer(corpus) as writer:
        writer.delete(["farm", "fields"])
        writer.finish()
    empty = CorpusIndex.open(corpus)
    assert not empty
    retriever = TamisRetriever(max_tokens=100, index=empty, **free)
    assert (retriever.invoke("goat"), retriever.invoke("goat")) == ([], [])
