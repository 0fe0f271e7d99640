"""The contract of a key selector: what a file in `selectors/` holds, and what its callers use.

    SelectorClass   the class that the file's last line names: `Selector: SelectorClass = TheClass`
    KeySelector     what it builds: the keys of one head, to be searched

`geometric_steps`, `prepare_queries`, `block_members` and `best_hits` do what most selectors have in
common. Selectors that need more than the keys of one head: `shared_selector.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from tamis_lab.methods.kv_search.exact import pad_hits
from tamis_lab.methods.kv_search.types import KeyHits, check_effort, check_k, check_vectors
from tamis_lab.methods.registry import SelectorInfo as SelectorInfo

BATCH_VALUES = 2**24
"""Key components gathered at once: 64 MB."""


class KeySelector(Protocol):
    """Finds the best keys of a head, with an effort that trades keys read for recall."""

    @property
    def efforts(self) -> Sequence[int]:
        """Efforts worth trying for these keys, ascending; never empty."""
        ...

    def search(self, queries: Tensor, k: int, effort: int) -> KeyHits:
        """The best k keys of each of `[Q, D]` queries that this effort finds.

        Threads may search at the same time.

        Raises:
            BadInput: queries of another width, or k or an effort below 1.
        """
        ...


class SelectorClass(Protocol):
    """The class of a selector."""

    @property
    def info(self) -> SelectorInfo:
        """What it is and where it comes from, as a class attribute."""
        ...

    def __call__(self, keys: Tensor, train: Tensor) -> KeySelector:
        """Builds a selector.

        Args:
            keys: `[N, D]` contiguous fp32, finite, at least one, in the order of their text.
            train: `[T, D]` training queries, likewise; a selector may ignore them.
        """
        ...


def geometric_steps(low: float, high: float, count: int = 10) -> list[int]:
    """At most `count` whole numbers from low to high, each a fixed factor above the one before."""
    ratio = max(high / low, 1.0) ** (1 / (count - 1))
    return sorted({max(1, round(low * ratio**i)) for i in range(count)})


def prepare_queries(queries: Tensor, keys: Tensor, k: int, effort: int) -> Tensor:
    """Checks the arguments of `search`; returns the queries as fp32 on the keys' device.

    Raises:
        BadInput: queries of another width, or k or an effort below 1.
    """
    check_k(k)
    check_effort(effort)
    return check_vectors(queries, keys.shape[1], "queries").to(keys)


def best_hits(keys: Tensor, queries: Tensor, ids: Tensor, k: int, keys_read: int) -> KeyHits:
    """The best k of each query's candidates by exact inner product.

    Args:
        ids: `[Q, C]`, the candidates of each query, each once; -1 stands for none.
        keys_read: of all queries together, see `KeyHits`.
    """
    best = min(k, ids.shape[1])
    best_scores, best_ids = [], []
    size = max(1, BATCH_VALUES // max(1, ids.shape[1] * keys.shape[1]))
    for query, own in zip(torch.split(queries, size), torch.split(ids, size), strict=True):
        scores = torch.einsum("qd,qcd->qc", query, keys[own.clamp_min(0)])
        top = scores.masked_fill(own < 0, -torch.inf).topk(best)
        best_scores.append(top.values)
        best_ids.append(own.gather(1, top.indices))
    return pad_hits(torch.cat(best_scores), torch.cat(best_ids), k, keys_read)


def block_members(blocks: Tensor, size: int, keys: int) -> Tensor:
    """The numbers of the keys in blocks of `size` consecutive keys.

    Args:
        blocks: `[Q, B]` numbers of blocks. keys: how many there are in all.

    Returns:
        `[Q, B * size]`, -1 beyond the last key.
    """
    ids = (blocks[..., None] * size + torch.arange(size, device=blocks.device)).flatten(1)
    return torch.where(ids < keys, ids, -1)


def drop_columns_of_none(ids: Tensor) -> Tensor:
    """`[Q, C]` candidates, -1 for none, in as few columns as the longest row needs."""
    return ids.sort(1, descending=True).values[:, : max(1, int((ids >= 0).sum(1).max()))]
