"""A distance between keys that is the difference of the logits that queries give them.

Two keys are near if the queries give them near logits. Over queries with second moment
S = E[q qᵀ], the mean squared difference of two keys' logits is (a - b)ᵀ S (a - b): the squared
Euclidean distance once keys are mapped by S^½. Queries mapped by S^-½ keep their inner products.
Queries of a language model are far from its keys and vary in few directions, so this differs much
from the plain distance of keys, and a search of graphs built with it reads fewer keys.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tamis.probes.devices import to_float64

FLOOR = 1e-4
"""Directions in which queries hardly vary get this share of the strongest direction's weight."""


def query_metric(queries: Tensor) -> Tensor:
    """S^½ of `[T, D]` fp32 queries: `[D, D]` fp32, symmetric and positive definite."""
    exact = to_float64(queries)
    moment = exact.T @ exact / len(queries)
    values, vectors = torch.linalg.eigh(moment)
    floor = (values.max() * FLOOR).clamp_min(torch.finfo(torch.float32).tiny)
    root: Tensor = (vectors * values.clamp_min(floor).sqrt()) @ vectors.T
    return root.to(queries)
