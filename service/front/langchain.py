"""The LangChain adapters under a short name: `from tamis.langchain import TamisCompressor`."""

from tamis.service.integrations.langchain import (
    TamisCompressor,
    TamisCrossEncoder,
    TamisDocumentTransformer,
    TamisRetriever,
)

__all__ = ["TamisCompressor", "TamisCrossEncoder", "TamisDocumentTransformer", "TamisRetriever"]
