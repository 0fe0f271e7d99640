"""The contract of a selector that needs more than the keys of one head.

    SharedSelectorClass   the class that the file's last line names, where `info.needs` is not empty
    SharedSelector        what it builds: the keys of several heads, to be searched together
    Setting               what it is told beside keys and queries

`PerHead` gives selectors of one head the same form.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from tamis.probes.errors import BadInput
from tamis_lab.methods.kv_search.contract import (
    KeySelector,
    SelectorInfo,
    best_hits,
    prepare_queries,
)
from tamis_lab.methods.kv_search.types import KeyHits, check_vectors


@dataclass(frozen=True, slots=True)
class Setting:
    """What there is beside the keys of S heads.

    Attributes:
        values: `[S, N, d]` fp32, of the same tokens as the keys.
        passages: `[P, 2]` int64, half-open spans of keys, ascending, which cover all of them.
        layers: the layer of each head, ascending.
    """

    values: Tensor
    passages: Tensor
    layers: tuple[int, ...]


class SharedSelector(Protocol):
    """Finds the best keys of several heads, with an effort that trades keys read for recall."""

    @property
    def efforts(self) -> Sequence[int]:
        """Efforts worth trying, ascending; never empty. The largest finds what exact search does,
        if the selector `needs` anything."""
        ...

    def search(self, queries: Tensor, k: int, effort: int, questions: Tensor) -> KeyHits:
        """The best k keys of each of `[S, Q, D]` queries that this effort finds.

        Args:
            questions: `[Q]`, the number of the question that each row belongs to; the rows of a
                question are consecutive and in order.

        Raises:
            BadInput: queries of another shape, or k or an effort below 1.
        """
        ...


class SharedSelectorClass(Protocol):
    """The class of a selector that needs more than the keys of one head."""

    @property
    def info(self) -> SelectorInfo:
        """What it is and where it comes from, as a class attribute."""
        ...

    def __call__(self, keys: Tensor, train: Tensor, setting: Setting) -> SharedSelector:
        """Builds a selector.

        Args:
            keys: `[S, N, D]` contiguous fp32, finite, at least one, in the order of their text.
            train: `[S, T, D]` training queries, likewise.
        """
        ...


class PerHead:
    """Selectors of one head each, searched one after the other with the same effort."""

    def __init__(self, keys: Tensor, selectors: Sequence[KeySelector]) -> None:
        self._keys, self._selectors = keys, selectors

    @property
    def efforts(self) -> Sequence[int]:
        """Those of the first head."""
        return self._selectors[0].efforts

    def search(self, queries: Tensor, k: int, effort: int, questions: Tensor) -> KeyHits:
        """The best keys of every head."""
        queries = prepare_heads(queries, self._keys, k, effort, questions)
        pairs = zip(self._selectors, queries, strict=True)
        return join_heads([selector.search(own, k, effort) for selector, own in pairs])


def check_heads(keys: Tensor, train: Tensor, setting: Setting) -> tuple[Tensor, Tensor]:
    """Keys and training queries of several heads as fp32.

    Raises:
        BadInput: a wrong shape, a value that is not finite, or passages that do not follow each
            other over all keys.
    """
    shapes = [list(keys.shape), list(train.shape), list(setting.values.shape)]
    if {len(shape) for shape in shapes} != {3} or not keys.numel():
        raise BadInput(f"keys, queries and values have shapes {shapes}; [S, N, D] is needed")
    S, N, D = keys.shape
    if {len(train), len(setting.values), len(setting.layers)} != {S} or shapes[2][1] != N:
        raise BadInput(
            f"keys, queries and values have shapes {shapes}, with {len(setting.layers)} layers; "
            "heads and keys have to be the same"
        )
    edges = setting.passages.flatten()
    follows = torch.equal(edges[1:-1:2], edges[2::2]) and bool((edges[::2] < edges[1::2]).all())
    if not (len(edges) and edges[0] == 0 and edges[-1] == N and follows):
        raise BadInput(f"passages have to follow each other from key 0 to key {N}")
    pairs = ((keys, D, "keys"), (train, D, "training queries"))
    checked = [
        torch.stack([check_vectors(head, D, what) for head in heads]) for heads, D, what in pairs
    ]
    check_vectors(setting.values.flatten(0, 1), None, "values")
    return checked[0], checked[1]


def prepare_heads(queries: Tensor, keys: Tensor, k: int, effort: int, questions: Tensor) -> Tensor:
    """Checks the arguments of `search`; returns the queries as fp32 on the keys' device.

    Raises:
        BadInput: queries of other heads or another width, k or an effort below 1, or another
            number of questions than of rows.
    """
    if queries.ndim != 3 or len(queries) != len(keys) or queries.shape[1:2] != questions.shape:
        raise BadInput(
            f"queries have shape {list(queries.shape)} and questions {list(questions.shape)}; "
            f"[{len(keys)}, Q, {keys.shape[2]}] and [Q] are needed"
        )
    pairs = zip(queries, keys, strict=True)
    return torch.stack([prepare_queries(rows, own, k, effort) for rows, own in pairs])


def question_rows(questions: Tensor) -> Iterator[slice]:
    """The rows of each question, in order."""
    counts = torch.unique_consecutive(questions, return_counts=True)[1].tolist()
    start = 0
    for count in counts:
        yield slice(start, start + count)
        start += count


def best_hits_of_heads(
    keys: Tensor, queries: Tensor, ids: Sequence[Tensor], k: int, keys_read: int
) -> KeyHits:
    """`best_hits` of every head: `ids` has `[Q, C]` candidates of each."""
    heads = zip(keys, queries, ids, strict=True)
    found = [best_hits(own, rows, candidates, k, 0) for own, rows, candidates in heads]
    return join_heads(found, keys_read)


def join_heads(found: Sequence[KeyHits], keys_read: int | None = None) -> KeyHits:
    """Hits of single heads as hits of all; keys read are added up where they are not given."""
    masses = [hits.mass for hits in found if hits.mass is not None]
    return KeyHits(
        torch.stack([hits.scores for hits in found]),
        torch.stack([hits.ids for hits in found]),
        sum(hits.keys_read for hits in found) if keys_read is None else keys_read,
        torch.stack(masses) if masses else None,
    )
