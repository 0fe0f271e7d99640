"""FAISS, an optional dependency: imported on first use, and its counters read safely in threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tamis.probes.errors import MissingExtra

_counting_lock = threading.Lock()
FaissHits = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Scores or distances, and ids."""


def faiss() -> Any:
    """The module `faiss`.

    Raises:
        MissingExtra: it is not installed; exact search in torch does not need it.
    """
    try:
        import faiss as module
    except ImportError as error:
        raise MissingExtra(
            "approximate search needs FAISS: pip install 'tamis[retrieval]' (tamis[gpu] on a CUDA "
            "machine, never both); retrieval.kv.exact.ExactIndex needs neither"
        ) from error
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


def to_numpy(vectors: Tensor) -> NDArray[np.float32]:
    """Vectors as FAISS takes them."""
    return np.ascontiguousarray(vectors.cpu().numpy(), dtype=np.float32)


def to_tensors(hits: FaissHits) -> tuple[Tensor, Tensor]:
    """FAISS's scores and ids as tensors."""
    return torch.from_numpy(hits[0]), torch.from_numpy(hits[1])
