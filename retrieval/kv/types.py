"""What a search over keys answers, and what can be searched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from tamis.probes.errors import BadInput


@dataclass(frozen=True, slots=True)
class KeyHits:
    """The keys that each query would attend to most, best first.

    Attributes:
        scores: `[Q, k]` fp32, inner product of query and key; -inf where there was no further key.
        ids: `[Q, k]` int64, in the order keys were added; -1 where there was no further key.
        keys_read: how many keys were read for all queries together: every inner product or distance
            with a key, or with a vector that stands for keys, counts as one.
    """

    scores: Tensor
    ids: Tensor
    keys_read: int


class Index(Protocol):
    """Keys that can be searched by inner product."""

    def add(self, keys: Tensor) -> None:
        """Adds `[N, D]` keys; the first one added has id 0."""
        ...

    def search(self, queries: Tensor, k: int) -> KeyHits:
        """The best k keys of each of `[Q, D]` queries. Threads may search at the same time."""
        ...

    def __len__(self) -> int:
        """How many keys there are."""
        ...


def check_vectors(vectors: Tensor, width: int | None, what: str) -> Tensor:
    """Vectors as fp32 `[N, D]`, contiguous; a NaN among keys would be found by every query.

    Raises:
        BadInput: another shape, another width than `width`, or a value that is not finite.
    """
    if vectors.ndim != 2 or (width is not None and vectors.shape[1] != width):
        wanted = f"[N, {'D' if width is None else width}]"
        raise BadInput(f"{what} have shape {list(vectors.shape)} and {wanted} is needed")
    found = vectors.detach().float().contiguous()
    if not torch.isfinite(found).all():
        rows = int((~torch.isfinite(found)).any(1).sum())
        raise BadInput(f"{rows} of {len(found)} {what} hold values that are not finite")
    return found


def check_effort(effort: int | None) -> None:
    """BadInput: an effort less than 1; None is the index's own."""
    if effort is not None and effort < 1:
        raise BadInput(f"the effort is {effort}; give at least 1")


def check_k(k: int) -> None:
    """BadInput: k is less than 1."""
    if k < 1:
        raise BadInput(f"k is {k}; ask for at least 1 key")
