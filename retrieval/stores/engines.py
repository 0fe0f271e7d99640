"""The engines by their names."""

from __future__ import annotations

from pathlib import Path

from tamis.probes.errors import BadInput
from tamis.retrieval.stores.types import ChunkStore

ENGINES = ("lancedb", "qdrant")
DEFAULT_NAME = "tamis"


def open_engine(engine: str, target: str | Path, name: str = DEFAULT_NAME) -> ChunkStore:
    """A collection of an engine, which need not exist yet.

    Args:
        target: a folder; for LanceDB also the URI of an object store, for Qdrant the URL of a
            server.
        name: of the table or collection.

    Raises:
        BadInput: no such engine. MissingExtra: its package is not installed.
    """
    if engine == "lancedb":
        from tamis.retrieval.stores.lance_store import LanceStore

        return LanceStore(str(target), name)
    if engine == "qdrant":
        from tamis.retrieval.stores.qdrant_store import QdrantStore

        return QdrantStore(str(target), name)
    raise BadInput(f"there is no engine {engine!r}; choose from {', '.join(ENGINES)}")
