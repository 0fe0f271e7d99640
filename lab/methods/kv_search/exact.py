"""Exact search, which reads every key: oracle of all recall figures, and fastest for few keys."""

from __future__ import annotations

import torch
from torch import Tensor

from tamis.probes.errors import BadInput
from tamis_lab.methods.kv_search.types import KeyHits, check_k, check_vectors

BATCH_SCORES = 2**24
"""Scores in memory at once: 64 MB."""


class ExactIndex:
    """Exact inner-product search in torch, on the device its keys are on."""

    def __init__(self, keys: Tensor | None = None) -> None:
        self._keys: Tensor | None = None
        if keys is not None:
            self.add(keys)

    def add(self, keys: Tensor) -> None:
        """Adds `[N, D]` keys. BadInput: another width than the first ones, or not finite."""
        width = None if self._keys is None else self._keys.shape[1]
        new = check_vectors(keys, width, "keys")
        self._keys = new if self._keys is None else torch.cat((self._keys, new.to(self._keys)))

    def search(self, queries: Tensor, k: int) -> KeyHits:
        """The best k keys of each query; of equal scores in any order.

        Raises:
            BadInput: queries of another width, or no keys were added.
        """
        check_k(k)
        if self._keys is None:
            raise BadInput("the index is empty; add keys before searching")
        queries = check_vectors(queries, self._keys.shape[1], "queries").to(self._keys)
        N, best = len(self._keys), min(k, len(self._keys))
        found = [
            (batch @ self._keys.T).topk(best)
            for batch in torch.split(queries, max(1, BATCH_SCORES // max(N, 1)))
        ]
        return pad_hits(
            torch.cat([part.values for part in found]),
            torch.cat([part.indices for part in found]),
            k,
            len(queries) * N,
        )

    def __len__(self) -> int:
        return 0 if self._keys is None else len(self._keys)


def pad_hits(scores: Tensor, ids: Tensor, k: int, keys_read: int) -> KeyHits:
    """Hits of k columns, padded with -inf and -1 where fewer keys were found."""
    missing = (0, k - scores.shape[1])
    return KeyHits(
        torch.nn.functional.pad(scores, missing, value=-torch.inf),
        torch.nn.functional.pad(ids, missing, value=-1),
        keys_read,
    )
