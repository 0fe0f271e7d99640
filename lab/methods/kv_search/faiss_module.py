"""The module `faiss`, which is an extra, and how many keys its searches read."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis.probes.extras import needing

_counting_lock = threading.Lock()
FaissHits = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Scores or distances, and ids."""


def faiss() -> Any:
    """The module `faiss`.

    Raises:
        MissingExtra: it is not installed; pip install 'tamis-lab[retrieval]'.
    """
    with needing(
        "this index needs FAISS: pip install 'tamis-lab[retrieval]' (tamis-lab[gpu] on a CUDA "
        "machine, never both)"
    ):
        import faiss as module
    return module


def search_and_count(search: Callable[[], FaissHits]) -> tuple[FaissHits, int]:
    """Runs a search; returns its hits, and how many distances it computed on all levels of a graph.

    FAISS counts the distances of all threads in one counter, so counted searches run one at a time.
    On a GPU it counts nothing.
    """
    module = faiss()
    graph, clusters = module.cvar.hnsw_stats, module.cvar.indexIVF_stats
    with _counting_lock:
        before = graph.ndis + clusters.ndis
        found = search()
        return found, int(graph.ndis + clusters.ndis - before)
