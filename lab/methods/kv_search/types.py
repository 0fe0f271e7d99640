"""The result of a search over keys, and the checks that every search makes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tamis.probes.errors import BadInput


@dataclass(frozen=True, slots=True)
class KeyHits:
    """The keys that each query would attend to most, best first.

    Attributes:
        scores: `[Q, k]` fp32, inner product of query and key; -inf where there was no further key.
        ids: `[Q, k]` int64, the number of each key in the order of adding; -1 where there was no
            further key.
        keys_read: how many keys were read for all queries together: every inner product or distance
            with a key, or with a vector that represents several keys, counts as one.
        mass: `[Q]`, an estimate of the share of attention that these keys have, from a selector
            whose method gives the rest of it to the mean of all values; None from the others.

    Selectors that share a choice have hits of several heads, `[S, Q, k]` and `[S, Q]`.
    """

    scores: Tensor
    ids: Tensor
    keys_read: int
    mass: Tensor | None = None


def check_vectors(vectors: Tensor, width: int | None, what: str) -> Tensor:
    """Vectors as contiguous fp32 `[N, D]`, all finite: every query would find a key with a NaN.

    Raises:
        BadInput: another shape, another width than `width`, or a value that is not finite.
    """
    if vectors.ndim != 2 or (width is not None and vectors.shape[1] != width):
        wanted = f"[N, {'D' if width is None else width}]"
        raise BadInput(f"{what} have shape {list(vectors.shape)} and {wanted} is needed")
    checked = vectors.detach().float().contiguous()
    if not torch.isfinite(checked).all():
        rows = int((~torch.isfinite(checked)).any(1).sum())
        raise BadInput(f"{rows} of {len(checked)} {what} hold values that are not finite")
    return checked


def check_effort(effort: int | None) -> None:
    """Refuses an effort below 1; None stands for the index's default.

    Raises:
        BadInput: the effort is below 1.
    """
    if effort is not None and effort < 1:
        raise BadInput(f"the effort is {effort}; give at least 1")


def check_k(k: int) -> None:
    """Refuses k below 1.

    Raises:
        BadInput: k is below 1.
    """
    if k < 1:
        raise BadInput(f"k is {k}; ask for at least 1 key")
