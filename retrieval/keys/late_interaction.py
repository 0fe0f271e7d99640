"""Late interaction: a question's queries against every key of every chunk.

best      [H, R, C]   the best key of each chunk, for each query (ColBERT, arXiv 2004.12832)
score     [C]         how far that stands out among the chunks, squared, over heads and queries

ColBERT adds the best products up. A token such as `the` then counts as much as the name that the
question is about, though every chunk has a key for it. So a query counts by how far a chunk's best
key is above the mean of other chunks; squared, and divided by their standard deviation. What is
rare in the corpus counts most, as with idf, without a table of words.
Figures: lab/log/retrieval-and-selectors.md#2026-11-24-the-corpus-index.

Mean and deviation are those of a sample of chunks, or predicted from the query (`FittedFloor`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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


def join_references(parts: Sequence[Reference], shares: Sequence[float]) -> Reference:
    """The reference of several sets of chunks together, given the share of chunks in each."""
    pairs = [(np.float32(share), part) for share, part in zip(shares, parts, strict=True)]
    mean = np.sum([share * part.mean for share, part in pairs], 0)
    apart = [share * (part.spread**2 + (part.mean - mean) ** 2) for share, part in pairs]
    return Reference(mean, np.sqrt(np.sum(apart, 0)))


ANCHORS = 2048
HINGES = 256
FIT_CHUNKS = 512
FIT_RUNS = 256
FIT_RUN = 16
"""Training queries side by side that are taken for one question, about as many as one has."""
_RIDGE = 1e-4
_LEAST_SPREAD = 0.02
"""A prediction below this share of a query's length is outside of what was fitted."""


@dataclass(frozen=True, slots=True)
class FittedFloor:
    """Predicts from a query what a sample of chunks would say, so that no chunk has to be read.

    How far the best of a chunk's keys lies depends on the tail of the products of the query with
    the keys of the corpus. Some keys, evenly drawn, show that tail, and ridge regression makes
    mean and deviation of it; twice the query has twice both, as each of the features:

        q    |q|    mean of the n largest q·a, n = 1, 2, 4 …    max(q·a, 0)

    for anchors a, and for the first few of them by themselves. A prediction differs from the
    sample, so scores do, too; what they rank first is as good.
    Figures: lab/log/retrieval-and-selectors.md#2026-11-29-a-floor-that-is-fitted.

    Attributes:
        anchors: `[A, H·d]` int8, in 127ths.
        weights: `[H, F, 2]` fp32, of mean and deviation.
        scale: `[2]` fp32, mean and deviation of chunks' scores for a question, in parts of the
            deviations' mean over its queries, added up over heads.
    """

    anchors: NDArray[np.int8]
    weights: Floats
    scale: Floats

    def reference(self, queries: Floats) -> Reference:
        """The reference that `[R, H·d]` queries would find."""
        heads = len(self.weights)
        parts = zip(np.split(queries, heads, 1), np.split(self.anchors, heads, 1), strict=True)
        features = [_features(own, anchors) for own, anchors in parts]
        pairs = zip(features, self.weights, strict=True)
        both = np.stack([f @ weights for f, weights in pairs]).astype(np.float32)
        lengths = np.stack([f[:, queries.shape[1] // heads] for f in features])
        spread = np.maximum(both[..., 1], np.maximum(_LEAST_SPREAD * lengths, 1e-6))
        return Reference(both[..., :1], spread[..., None].astype(np.float32))


def fit_floor(
    keys: NDArray[Any], starts: NDArray[Any], queries: Floats, heads: int
) -> FittedFloor | None:
    """Fits the floor of a corpus to training queries; None without any, or without keys.

    Args:
        keys: `[N, H·d]` int8. starts: `[C + 1]`, where the keys of each chunk begin.
        queries: `[T, H·d]`, those of one text after the other.
    """
    filled = np.flatnonzero(np.diff(starts))
    if not len(filled) or not len(queries):
        return None
    chunks = filled[:: -(-len(filled) // FIT_CHUNKS)]
    own = [np.asarray(keys[starts[c] : starts[c + 1]]) for c in chunks]
    runs = np.arange(len(queries)) // FIT_RUN
    queries = queries[runs % -(-int(runs[-1] + 1) // FIT_RUNS) == 0]
    best = max_similarities(queries, np.concatenate(own), np.cumsum([0, *map(len, own)]), heads)
    draw = np.random.default_rng(0)
    places = draw.choice(len(keys), min(ANCHORS, len(keys)), replace=False)
    wanted, anchors = reference_of(best), np.asarray(keys[places])
    split = zip(np.split(queries, heads, 1), np.split(anchors, heads, 1), strict=True)
    weights = []
    for head, parts in enumerate(split):
        features = _features(*parts).astype(np.float64)
        length = np.maximum(np.linalg.norm(parts[0], axis=1, keepdims=True), 1e-9)
        features /= length
        targets = np.concatenate((wanted.mean[head], wanted.spread[head]), 1) / length
        moments = features.T @ features
        moments += _RIDGE * np.trace(moments) / len(moments) * np.eye(len(moments))
        weights.append(np.linalg.solve(moments, features.T @ targets))
    floor = FittedFloor(anchors, np.stack(weights).astype(np.float32), np.ones(2, np.float32))
    reference, scales = floor.reference(queries), []
    for first in range(0, max(1, len(queries) - FIT_RUN + 1), FIT_RUN):
        rows = slice(first, first + FIT_RUN)
        run = Reference(reference.mean[:, rows], reference.spread[:, rows])
        scores = stand_out_scores(best[:, rows], run)
        scales.append(np.array([scores.mean(), scores.std()]) / mean_spread(run))
    return FittedFloor(anchors, floor.weights, np.mean(scales, 0).astype(np.float32))


def mean_spread(reference: Reference) -> float:
    """The deviations' mean over queries, added up over heads."""
    return float(reference.spread.mean(1).sum())


def _features(queries: Floats, anchors: NDArray[np.int8]) -> Floats:
    """What mean and deviation are predicted from: `[R, F]`, first the queries and their lengths."""
    import torch  # see max_similarities

    keys = torch.from_numpy(anchors.astype(np.float32) / np.float32(SCALE))
    products = torch.from_numpy(queries) @ keys.T
    hinges = products[:, :HINGES].clamp_min(0) * (queries.shape[1] / HINGES) ** 0.5
    counts = 2 ** np.arange(len(anchors).bit_length())
    sums = products.sort(dim=1, descending=True).values.cumsum(1).numpy()
    length = np.linalg.norm(queries, axis=1, keepdims=True)
    tail = sums[:, counts - 1] / counts
    found: Floats = np.concatenate((queries, length, tail, hinges.numpy()), 1, dtype=np.float32)
    return found


def _chunk_blocks(starts: NDArray[Any], max_keys: int) -> Iterator[tuple[int, int]]:
    """Half-open runs of chunks with at most `max_keys` keys together, at least one chunk each."""
    first, count = 0, len(starts) - 1
    while first < count:
        stop = int(np.searchsorted(starts, starts[first] + max_keys, "right")) - 1
        stop = min(count, max(first + 1, stop))
        yield first, stop
        first = stop
