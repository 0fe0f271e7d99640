"""What every approximate search of one head's keys gives, and what it needs to be built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Arrays = Mapping[str, NDArray[Any]]
"""The arrays of a search structure by their names."""
Progress = Callable[[int], None]
"""Called with how many more keys were taken in."""


@dataclass(frozen=True, slots=True)
class FoundKeys:
    """Keys that were found for the query vectors of a question, in no order.

    Attributes:
        rows: `[F]`, the query vector that each was found for. keys: `[F]`, the key's number.
        scores: `[F]` fp32, inner product of query and key, as the query was given.
        read: inner products with keys and with centroids, for all query vectors together.
    """

    rows: NDArray[np.int64]
    keys: NDArray[np.int64]
    scores: Floats
    read: int


class KeySearch(Protocol):
    """Finds the keys of one head that query vectors have the largest inner products with."""

    def __init__(self, keys: NDArray[Any], arrays: Arrays) -> None:
        """Opens what `build` made of `[N, d]` int8 keys."""

    @staticmethod
    def build(keys: NDArray[Any], queries: Floats | None, report: Progress) -> Arrays:
        """Builds the structure over `[N, d]` int8 keys, at least one.

        Args:
            queries: `[T, d]` training queries; a structure may ignore them.
        """

    def find(self, queries: Floats, effort: float = 1.0) -> FoundKeys:
        """Finds keys for `[R, d]` queries; twice the effort reads about twice the keys."""
