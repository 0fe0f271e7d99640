"""Late interaction: a question's queries against every key of every chunk.

best      [H, R, C]   the best key of each chunk, for each query (ColBERT, arXiv 2004.12832)
score     [C]         how far that stands out among the chunks, squared, over heads and queries

ColBERT adds the best products up. A token such as `the` then counts as much as the name that the
question is about, though every chunk has a key for it. So a query counts by how far a chunk's best
key is above the mean of other chunks; squared, and divided by their standard deviation. What is
rare in the corpus counts most, as with idf, without a table of words.
Figures: lab/log/retrieval-and-selectors.md#2026-11-24-the-corpus-index.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis.probes.interruption import check_interruption

SCALE = 127
"""Keys have unit length: channels lie in [-1, 1] and are stored as whole 127ths."""
Floats = NDArray[np.float32]


def max_similarities(
    queries: Floats, keys: NDArray[Any], starts: NDArray[Any], heads: int, block: int = 4096
) -> Floats:
    """The largest inner product of each query with a key of each chunk: `[H, R, C]`.

    Args:
        queries: `[R, H·d]`. keys: `[N, H·d]` int8, in 127ths; read block by block.
        starts: `[C + 1]`, where each chunk's keys begin. A chunk without keys has -inf.
        block: about the most keys that are expanded to fp32 at a time, so that they stay in the
            cache of a core.

    Torch multiplies, since it encoded the question: numpy's own threads would keep waiting for work
    on the cores that the next question needs, and double its time.
    """
    import torch  # a search by words alone needs no torch

    rows = torch.from_numpy(queries.reshape(len(queries), heads, -1) / np.float32(SCALE))
    best = np.full((heads, len(queries), len(starts) - 1), -np.inf, np.float32)
    for first, stop in _chunk_blocks(starts, block):
        check_interruption()
        a, b = int(starts[first]), int(starts[stop])
        filled = first + np.flatnonzero(np.diff(starts[first : stop + 1]))
        if not len(filled):
            continue
        part = np.asarray(keys[a:b]).reshape(b - a, heads, -1).astype(np.float32)
        for h in range(heads):
            products = (rows[:, h] @ torch.from_numpy(part[:, h]).T).numpy()
            best[h][:, filled] = np.maximum.reduceat(products, starts[filled] - a, axis=1)
    return best


def inner_products(vectors: NDArray[Any], query: Any) -> Floats:
    """Inner products of stored vectors `[C, D]` with a tensor `[D]`: `[C]`; by torch, as above."""
    import torch

    products: Floats = (torch.from_numpy(vectors.astype(np.float32)) @ query).numpy()
    return products


@dataclass(frozen=True, slots=True)
class Reference:
    """The best keys of the chunks that a chunk is compared with: mean and spread, `[H, R, 1]`."""

    mean: Floats
    spread: Floats


def reference_of(best: Floats) -> Reference:
    """The reference that the chunks of `best` make, `[H, R, C]`; chunks without keys do not count.

    Without a chunk, no chunk stands out.
    """
    compared = best[..., np.isfinite(best).all((0, 1))]
    if not compared.size:
        shape = (*best.shape[:2], 1)
        return Reference(np.full(shape, np.inf, np.float32), np.ones(shape, np.float32))
    spread = np.maximum(compared.std(2, keepdims=True), 1e-6)
    return Reference(compared.mean(2, keepdims=True), spread)


def stand_out_scores(best: Floats, reference: Reference) -> Floats:
    """How far each chunk's best keys stand out from those of the reference: `[C]`, at least 0."""
    above = np.maximum(best - reference.mean, 0)
    scores: Floats = (above * above / reference.spread).mean(1).sum(0)
    return scores


def _chunk_blocks(starts: NDArray[Any], max_keys: int) -> Iterator[tuple[int, int]]:
    """Half-open runs of chunks with at most `max_keys` keys together, at least one chunk each."""
    first, count = 0, len(starts) - 1
    while first < count:
        stop = int(np.searchsorted(starts, starts[first] + max_keys, "right")) - 1
        stop = min(count, max(first + 1, stop))
        yield first, stop
        first = stop
