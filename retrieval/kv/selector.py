"""What a selector is, and what several of them share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from tamis.probes.errors import BadInput
from tamis.retrieval.kv.exact import pad_hits
from tamis.retrieval.kv.types import KeyHits, check_effort, check_k, check_vectors

BATCH_VALUES = 2**24
"""Key components gathered at once: 64 MB."""


@dataclass(frozen=True, slots=True)
class SelectorInfo:
    """What a selector is, in a line, and where it comes from.

    Attributes:
        effort: what its effort counts, such as "pages read"; empty where there is none to choose.
    """

    summary: str
    source: str
    effort: str = ""


class KeySelector(Protocol):
    """Finds the best keys of a head, with an effort that trades keys read for recall.

    A class is called with keys `[N, D]`, in the order of their text, and training queries `[T, D]`,
    which it may ignore. Threads may search at the same time.
    """

    info: ClassVar[SelectorInfo]

    @property
    def efforts(self) -> Sequence[int]:
        """Efforts worth trying for these keys, ascending; never empty."""
        ...

    def search(self, queries: Tensor, k: int, effort: int) -> KeyHits:
        """The best k keys of each of `[Q, D]` queries that this effort finds."""
        ...


def geometric_steps(low: float, high: float, count: int = 10) -> list[int]:
    """Whole numbers from low to high, each a fixed factor above the one before."""
    ratio = max(high / low, 1.0) ** (1 / (count - 1))
    return sorted({max(1, round(low * ratio**i)) for i in range(count)})


def checked_some(keys: Tensor) -> Tensor:
    """Keys that a structure is made of. BadInput: there are none, or they have no width."""
    if not keys.numel():
        raise BadInput(f"keys have shape {list(keys.shape)}; give at least one, of a width")
    return keys


def prepare_queries(queries: Tensor, keys: Tensor, k: int, effort: int) -> Tensor:
    """Queries as the selectors use them. BadInput: another width, k or effort below 1."""
    check_k(k)
    check_effort(effort)
    return check_vectors(queries, keys.shape[1], "queries").to(keys)


def best_hits(keys: Tensor, queries: Tensor, ids: Tensor, k: int, keys_read: int) -> KeyHits:
    """The best k of each query's candidates `[Q, C]` by exact inner product; -1 is none."""
    k_there = min(k, ids.shape[1])
    values, found = [], []
    size = max(1, BATCH_VALUES // max(1, ids.shape[1] * keys.shape[1]))
    for query, own in zip(torch.split(queries, size), torch.split(ids, size), strict=True):
        scores = torch.einsum("qd,qcd->qc", query, keys[own.clamp_min(0)])
        top = scores.masked_fill(own < 0, -torch.inf).topk(k_there)
        values.append(top.values)
        found.append(own.gather(1, top.indices))
    return pad_hits(torch.cat(values), torch.cat(found), k, keys_read)
