"""Keys of a corpus of any size: those of an index, and beyond them chunks drawn like them.

A drawn chunk is a chunk of the index whose every key was moved by what separates another key from
the centre of its list (some 24 near keys), and brought to unit length again: the same crowds of
near keys and lengths of chunks, in another place. Drawn chunks have no text.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis.retrieval.approximate.graph import KeyClusters, cluster_keys
from tamis.retrieval.index.store import CorpusIndex
from tamis.retrieval.keys.late_interaction import SCALE

_BLOCK_CHUNKS = 1024


@dataclass(frozen=True, slots=True)
class KeyCorpus:
    """Keys `[N, H·d]` int8, where each chunk's begin `[C + 1]`, and how many chunks are real."""

    keys: NDArray[Any]
    starts: NDArray[np.int64]
    real_chunks: int

    @property
    def real_keys(self) -> int:
        """How many of the keys were read from text."""
        return int(self.starts[self.real_chunks])


def index_corpus(index: CorpusIndex, tokens: int | None = None) -> KeyCorpus:
    """The keys of an index, of its first chunks where there are more than `tokens`."""
    parts = index.key_arrays()
    keys = np.concatenate([part[0] for part in parts])
    sizes = np.concatenate([np.diff(part[1]) for part in parts])
    starts = np.cumsum([0, *sizes], dtype=np.int64)
    count = len(sizes)
    if tokens is not None and tokens < starts[-1]:
        count = int(np.searchsorted(starts, tokens, "right")) - 1
    starts = starts[: count + 1]
    return KeyCorpus(keys[: starts[-1]], starts, count)


def extend_corpus(real: KeyCorpus, tokens: int, heads: int, path: Path, seed: int = 0) -> KeyCorpus:
    """The keys of a corpus and of drawn chunks, about `tokens` together, in a file.

    Args:
        path: the .npy file that is written and mapped into memory.
    """
    draw = np.random.default_rng(seed)
    sizes = np.diff(real.starts)
    missing = max(0, tokens - int(real.starts[-1]))
    drawn = draw.integers(0, real.real_chunks, 1 + round(missing / sizes.mean()))
    drawn = drawn[: np.searchsorted(np.cumsum(sizes[drawn]), missing)]
    starts = np.cumsum([0, *sizes, *sizes[drawn]], dtype=np.int64)
    shape = (int(starts[-1]), real.keys.shape[1])
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.int8, shape=shape)
    out[: len(real.keys)] = real.keys
    offsets = [_offsets(keys) for keys in np.split(real.keys, heads, axis=1)]
    filled = len(real.keys)
    for first in range(0, len(drawn), _BLOCK_CHUNKS):
        own = drawn[first : first + _BLOCK_CHUNKS]
        rows = np.concatenate([np.arange(*real.starts[c : c + 2]) for c in own])
        for head, moved in enumerate(offsets):
            width = moved.shape[1]
            columns = slice(head * width, (head + 1) * width)
            keys = real.keys[rows, columns] + moved[draw.integers(0, len(moved), len(rows))]
            length = np.maximum(np.linalg.norm(keys, axis=1, keepdims=True), 1e-6)
            out[filled : filled + len(rows), columns] = np.rint(keys * (SCALE / length))
        filled += len(rows)
    out.flush()
    return KeyCorpus(np.load(path, mmap_mode="r"), starts, real.real_chunks)


def _offsets(keys: NDArray[Any]) -> NDArray[np.float32]:
    """What separates each key from the centre of its list: `[N, d]`."""
    clusters: KeyClusters = cluster_keys(keys)
    owners = np.repeat(np.arange(len(clusters.centroids)), np.diff(clusters.starts))
    centres = clusters.centroids[owners].astype(np.float32)
    return np.asarray(keys[clusters.members].astype(np.float32) - centres)
