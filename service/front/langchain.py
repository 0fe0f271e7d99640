"""The LangChain adapters under a short name: `from tamis.langchain import TamisCompressor`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tamis.service.integrations.langchain import (
    TamisCompressor,
    TamisCrossEncoder,
    TamisDocumentTransformer,
    TamisRetriever,
)

if TYPE_CHECKING:
    from tamis.service.integrations.langchain_agents import TamisToolChoice as TamisToolChoice
    from tamis.service.integrations.langchain_agents import TamisToolEdit as TamisToolEdit
    from tamis.service.integrations.langchain_agents import (
        TamisToolMiddleware as TamisToolMiddleware,
    )

_AGENTS = ("TamisToolChoice", "TamisToolEdit", "TamisToolMiddleware")
__all__ = ["TamisCompressor", "TamisCrossEncoder", "TamisDocumentTransformer", "TamisRetriever"]


def __getattr__(name: str) -> Any:
    """What is for agents needs `langchain`, all else langchain-core alone."""
    if name not in _AGENTS:
        raise AttributeError(f"module 'tamis.langchain' has no attribute {name!r}")
    from tamis.service.integrations import langchain_agents

    return getattr(langchain_agents, name)
