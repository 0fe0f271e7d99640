"""FAISS by name: every key (flat), clusters of keys (ivf), a graph of keys near each other (hnsw).

Each in two forms, because FAISS's structures are made for distances and attention is an inner
product:

    ip             keys centred, compared by inner product
    augmented_l2   one coordinate more makes all keys equally long, so that the nearest key in
                   Euclidean distance has the largest inner product (Bachrach et al., RecSys 2014)

Centring keys takes the same number off all scores of a query, so it changes no order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from tamis.probes.errors import BadInput, MissingExtra
from tamis.retrieval.kv.exact import pad_hits
from tamis.retrieval.kv.faiss_library import to_numpy, search_and_count, faiss, to_tensors
from tamis.retrieval.kv.types import KeyHits, check_effort, check_k, check_vectors

KeyForm = Literal["ip", "augmented_l2"]


@dataclass(frozen=True, slots=True)
class _IndexKind:
    """How FAISS makes an index of `[N, D]` vectors, and how an effort is told to a search."""

    make: Callable[[int, int, int, Mapping[str, int]], Any]
    params: Callable[[int], Any]
    options: Mapping[str, int]
    effort: str | None = None
    gpu: bool = True
    least: Mapping[str, int] = field(default_factory=dict)


def _flat(N: int, D: int, metric: int, chosen: Mapping[str, int]) -> Any:
    return faiss().IndexFlat(D, metric)


def _ivf(N: int, D: int, metric: int, chosen: Mapping[str, int]) -> Any:
    lists = min(chosen["lists"] or max(1, round(4 * N**0.5)), N)
    index = faiss().IndexIVFFlat(faiss().IndexFlat(D, metric), D, lists, metric)
    index.cp.min_points_per_centroid = 1  # few keys are no reason for a warning on stderr
    return index


def _hnsw(N: int, D: int, metric: int, chosen: Mapping[str, int]) -> Any:
    index = faiss().IndexHNSWFlat(D, -(-chosen["degree"] // 2), metric)
    index.hnsw.efConstruction = chosen["construction"]
    return index


_KINDS = {
    "flat": _IndexKind(_flat, lambda effort: None, {}),
    "ivf": _IndexKind(
        _ivf,
        lambda probes: faiss().SearchParametersIVF(nprobe=probes),
        {"lists": 0, "probes": 32},
        "probes",
    ),
    "hnsw": _IndexKind(
        _hnsw,
        lambda beam: faiss().SearchParametersHNSW(efSearch=beam),
        {"degree": 32, "construction": 100, "beam": 200},
        "beam",
        gpu=False,
        least={"degree": 3},  # FAISS does not survive graphs of one link a key
    ),
}


def build(name: str, *, form: KeyForm = "ip", device: str = "cpu", **options: int) -> AnnIndex:
    """An empty index; `add` trains it.

    Args:
        name: `flat`, `ivf` or `hnsw`.
        form: `ip` or `augmented_l2`, as above.
        device: `cpu`, or `cuda` for flat and ivf with a GPU build of FAISS.
        options: for ivf `lists` (4 √N by default) and `probes`, how many are read; for hnsw
            `degree` (neighbours on the lowest level), `construction` and `beam` (efSearch).

    Raises:
        BadInput: no such name, form, device or option.
        MissingExtra: FAISS is not installed, or its build has no GPU.
    """
    if name not in _KINDS or form not in get_args(KeyForm) or device not in ("cpu", "cuda"):
        raise BadInput(
            f"there is no index {name!r} in form {form!r} on {device!r}; names are "
            f"{', '.join(_KINDS)}, forms {', '.join(get_args(KeyForm))}, devices cpu and cuda"
        )
    kind = _KINDS[name]
    if odd := sorted(set(options) - set(kind.options)):
        raise BadInput(f"{name} has no option {odd}; its options are {[*kind.options] or 'none'}")
    for key, value in options.items():
        if value < (least := kind.least.get(key, 1)):
            raise BadInput(f"{key}={value} is too small; give at least {least}")
    if device == "cuda":
        _check_gpu(name, kind)
    return AnnIndex(kind, form, device, {**kind.options, **options})


def _check_gpu(name: str, kind: _IndexKind) -> None:
    if not kind.gpu:
        raise BadInput(f"FAISS has no {name} on a GPU; choose ivf or flat, or device='cpu'")
    if not hasattr(faiss(), "StandardGpuResources") or not faiss().get_num_gpus():
        raise MissingExtra("this FAISS sees no GPU: pip uninstall faiss-cpu, then 'tamis[gpu]'")


class AnnIndex:
    """Keys in a FAISS index; made by `build`. Scores are inner products in either form."""

    def __init__(self, kind: _IndexKind, form: KeyForm, device: str, chosen: Mapping[str, int]) -> None:
        faiss()
        self.form, self.device, self.chosen, self._kind = form, device, chosen, kind
        self._keys = torch.empty(0, 0)
        self._index: Any = None

    def add(self, keys: Tensor) -> None:
        """Builds the index of `[N, D]` keys, with those that were there before.

        Raises:
            BadInput: no keys, another width than the first ones, or values that are not finite.
        """
        width = self._keys.shape[1] if len(self) else None
        new = check_vectors(keys, width, "keys").cpu()
        if not len(new):
            raise BadInput("there are no keys to add")
        every = torch.cat((self._keys, new)) if len(self) else new
        vectors = to_numpy(self._augmented(every - every.mean(0)))
        module = faiss()
        metric = module.METRIC_INNER_PRODUCT if self.form == "ip" else module.METRIC_L2
        index = self._kind.make(len(vectors), vectors.shape[1], metric, self.chosen)
        index.train(vectors)
        index.add(vectors)
        if self.device == "cuda":
            index = module.index_cpu_to_gpu(module.StandardGpuResources(), 0, index)
        self._keys, self._index = every, index

    def search(self, queries: Tensor, k: int, effort: int | None = None) -> KeyHits:
        """The best keys that the index finds.

        Args:
            effort: probes of ivf or beam of hnsw, in place of what the index was built with.

        Raises:
            BadInput: queries of another width, an effort below 1, or no keys were added.
        """
        check_k(k)
        check_effort(effort)
        if not len(self):
            raise BadInput("the index is empty; add keys before searching")
        queries = check_vectors(queries, self._keys.shape[1], "queries").cpu()
        asked = to_numpy(queries if self.form == "ip" else torch.nn.functional.pad(queries, (0, 1)))
        if effort is None:
            effort = self.chosen[self._kind.effort] if self._kind.effort else 1
        best, params = min(k, len(self)), self._kind.params(effort)
        found, read = search_and_count(lambda: self._index.search(asked, best, params=params))
        ids = to_tensors(found)[1]
        # distances are small differences of large numbers: scores come from the keys themselves
        scores = torch.einsum("qd,qkd->qk", queries, self._keys[ids.clamp_min(0)])
        scores, order = scores.masked_fill(ids < 0, -torch.inf).sort(1, descending=True)
        return pad_hits(scores, ids.gather(1, order), k, read + len(queries) * self._uncounted())

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def lists(self) -> int | None:
        """How many lists an ivf has; None for the others."""
        return int(self._index.nlist) if self._kind.effort == "probes" else None

    def _augmented(self, keys: Tensor) -> Tensor:
        if self.form == "ip":
            return keys
        squares = keys.square().sum(1)
        return torch.cat((keys, (squares.max() - squares).clamp_min(0).sqrt()[:, None]), 1)

    def _uncounted(self) -> int:
        """Vectors a query reads that FAISS leaves out of its counts."""
        return len(self) if self._kind.effort is None else self.lists or 1
