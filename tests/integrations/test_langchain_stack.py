"""tamis inside LangChain's own retrievers, pipelines and chains, over a FAISS store with MiniLM."""

from __future__ import annotations

import asyncio

import pytest
from langchain_classic.chains.combine_documents import create_stuff_documents_chain
from langchain_classic.chains.retrieval import create_retrieval_chain
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_classic.retrievers.document_compressors import (
    CrossEncoderReranker,
    DocumentCompressorPipeline,
)
from langchain_community.document_transformers import EmbeddingsRedundantFilter
from langchain_community.vectorstores import FAISS
from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnablePassthrough

from examples.rag import MiniLM
from tamis.probes.tokens import TextTokenizer
from tamis.service.integrations.langchain import (
    TamisCompressor,
    TamisCrossEncoder,
    TamisDocumentTransformer,
    TamisRetriever,
)
from tests.scripted import ScriptedReader
from tests.service.cli.cli_kit import word_tokenizer
from tests.service.integrations.adapter_kit import ASKED, PIN, TEXTS, WORDS

pytestmark = pytest.mark.model
PROMPT = ChatPromptTemplate.from_template("{context}\n\nQuestion: {input}")


@pytest.fixture(scope="module")
def embeddings(encoder_folder):
    return MiniLM()


@pytest.fixture(scope="module")
def store(embeddings):
    documents = [Document(text, metadata={"page": i}) for i, text in enumerate(TEXTS)]
    return FAISS.from_documents(documents, embeddings, ids=[f"id-{i}" for i in range(len(TEXTS))])


@pytest.fixture
def fields(tmp_path):
    words = TextTokenizer.from_file(word_tokenizer(tmp_path))
    return {
        "proxy": ScriptedReader.from_needles(PIN),
        "options": {"probe": None},
        "tokenizer": words,
    }


@pytest.fixture
def store_retriever(store):
    return store.as_retriever(search_kwargs={"k": 3})


def said(documents):
    return [document.page_content for document in documents]


def test_the_contextual_compression_retriever_compresses_with_it(store_retriever, fields):
    compressor = TamisCompressor(max_tokens=WORDS, **fields)
    retriever = ContextualCompressionRetriever(
        base_compressor=compressor, base_retriever=store_retriever
    )
    (kept,) = retriever.invoke(ASKED)
    assert (kept.page_content, kept.id, kept.metadata["page"]) == (PIN, "id-1", 1)
    assert said(asyncio.run(retriever.ainvoke(ASKED))) == [PIN]


def test_the_store_s_own_documents_stay_as_they_are(store, store_retriever, fields):
    TamisRetriever(retriever=store_retriever, max_tokens=WORDS, **fields).invoke(ASKED)
    held = store.get_by_ids(["id-1"])[0]
    assert (held.page_content, held.metadata) == (TEXTS[1], {"page": 1})


def test_a_pipeline_takes_it_as_compressor_and_as_transformer(store_retriever, embeddings, fields):
    pipeline = DocumentCompressorPipeline(
        transformers=[
            EmbeddingsRedundantFilter(embeddings=embeddings),
            TamisDocumentTransformer(query=ASKED, max_tokens=13, **fields),
            EmbeddingsRedundantFilter(embeddings=embeddings),
            TamisCompressor(max_tokens=WORDS, **fields),
        ]
    )
    retriever = ContextualCompressionRetriever(
        base_compressor=pipeline, base_retriever=store_retriever
    )
    assert said(retriever.invoke(ASKED)) == [PIN]
    assert said(asyncio.run(retriever.ainvoke(ASKED))) == [PIN]


def test_the_cross_encoder_reranker_ranks_with_it(store_retriever, fields):
    wanted = CrossEncoderReranker.model_fields["model"].annotation
    wanted.register(TamisCrossEncoder)  # needed where langchain-core has no class for it
    encoder = TamisCrossEncoder(proxy=fields["proxy"], options=fields["options"])
    reranker = CrossEncoderReranker(model=encoder, top_n=1)
    retriever = ContextualCompressionRetriever(
        base_compressor=reranker, base_retriever=store_retriever
    )
    assert said(retriever.invoke(ASKED)) == [TEXTS[1]]


@pytest.mark.parametrize("max_tokens", [6, 13, 20])
def test_what_the_stuff_chain_puts_into_the_prompt_is_within_the_budget(
    store_retriever, fields, max_tokens
):
    prompts = []

    def listening(prompt):
        prompts.append(prompt.to_string())
        return prompt

    model = RunnableLambda(listening) | FakeListChatModel(responses=["In the barn."])
    stuffing = create_stuff_documents_chain(model, PROMPT)
    retriever = TamisRetriever(retriever=store_retriever, max_tokens=max_tokens, **fields)
    answer = create_retrieval_chain(retriever, stuffing).invoke({"input": ASKED})
    context = prompts[0].removeprefix("Human: ").split("\n\nQuestion:")[0]
    assert PIN in context
    assert fields["tokenizer"].count(context) <= max_tokens
    assert answer["answer"] == "In the barn."


def test_it_is_a_step_of_a_chain_in_every_way_of_calling(store_retriever, fields):
    step = TamisCompressor(max_tokens=WORDS, **fields).as_runnable()
    chain = (
        {"documents": store_retriever, "question": RunnablePassthrough()}
        | step
        | RunnableLambda(lambda kept: {"context": kept[0].page_content, "input": ASKED})
        | PROMPT
        | FakeListChatModel(responses=["In the barn."] * 10)
        | StrOutputParser()
    )
    assert chain.invoke(ASKED) == "In the barn."
    assert chain.batch([ASKED, ASKED]) == ["In the barn."] * 2
    assert "".join(chain.stream(ASKED)) == "In the barn."
    assert asyncio.run(chain.ainvoke(ASKED)) == "In the barn."


def test_the_default_proxy_answers_from_the_store(store_retriever, proxy_folder):
    retriever = TamisRetriever(retriever=store_retriever, max_tokens=12, proxy=str(proxy_folder))
    assert PIN in said(retriever.invoke(ASKED))[0]
