"""FAISS, which is an extra: imported where it is used, and its counts of distances read safely."""

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


def faiss() -> Any:
    """The module.

    Raises:
        MissingExtra: it is not installed; exact search in torch needs none.
    """
    try:
        import faiss as module
    except ImportError as error:
        raise MissingExtra(
            "approximate search needs FAISS: pip install 'tamis[retrieval]' "
            "(tamis[gpu] on a CUDA machine, never both); retrieval.exact.Exact needs neither"
        ) from error
    return module


def search_and_count(search: Callable[[], FaissHits]) -> tuple[FaissHits, int]:
    """A search and how many distances to keys it computed, upper levels of a graph included.

    FAISS counts the distances of all threads in one place, so counted searches go one at a time.
    On a GPU it counts nothing.
    """
    module = faiss()
    graph, clusters = module.cvar.hnsw_stats, module.cvar.indexIVF_stats
    with _counting_lock:
        before = graph.ndis + clusters.ndis
        found = search()
        return found, int(graph.ndis + clusters.ndis - before)


def to_numpy(vectors: Tensor) -> NDArray[np.float32]:
    """As FAISS takes them."""
    return np.ascontiguousarray(vectors.cpu().numpy(), dtype=np.float32)


def to_tensors(found: FaissHits) -> tuple[Tensor, Tensor]:
    """As torch takes them: scores and ids."""
    return torch.from_numpy(found[0]), torch.from_numpy(found[1])
