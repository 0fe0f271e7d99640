"""LangChain's own tests of retrievers, as its package has them."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_tests.integration_tests.retrievers import RetrieversIntegrationTests

from tamis.service.integrations.langchain import TamisRetriever

pytestmark = pytest.mark.asyncio


class TestRetriever(RetrieversIntegrationTests):
    """A retriever around another that finds more than is asked for."""

    @property
    def retriever_constructor(self) -> type[TamisRetriever]:
        """What makes one."""
        return TamisRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        """What it is made of."""
        store = InMemoryVectorStore(DeterministicFakeEmbedding(size=8))
        store.add_documents([Document(f"Cat {n} sat on mat {n}.") for n in range(8)])
        return {"retriever": store.as_retriever(), "ratio": 1.0, "method": "lexical"}

    @property
    def retriever_query_example(self) -> str:
        """A question."""
        return "Where did the cat sit?"
