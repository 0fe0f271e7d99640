"""Documents of LangChain, and a retriever that always finds the same."""

from __future__ import annotations

from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever

from tests.service.integrations.adapter_kit import TEXTS


def documents():
    return [
        Document(text, id=f"id-{i}", metadata={"source": {"file": f"{i}.md", "tags": ["x"]}})
        for i, text in enumerate(TEXTS)
    ]


class Fixed(BaseRetriever):
    """A retriever that finds the same documents whatever is asked."""

    found: list[Document]

    def _get_relevant_documents(self, query, *, run_manager):
        return self.found
