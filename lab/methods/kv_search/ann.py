"""FAISS indexes by name: every key (flat), clusters of keys (ivf), a graph of near keys (hnsw).

Each in two forms, because FAISS's structures are made for distances and attention is an inner
product:

    ip             keys centred, compared by inner product
    augmented_l2   one more coordinate makes all keys equally long, so that the nearest key in
                   Euclidean distance has the largest inner product (Bachrach et al., RecSys 2014)

Centring the keys subtracts the same number from all scores of a query, so it changes no order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tamis.probes.errors import BadInput, MissingExtra
from tamis_lab.methods.kv_search.exact import pad_hits
from tamis_lab.methods.kv_search.faiss_module import FaissHits, faiss, search_and_count
from tamis_lab.methods.kv_search.types import KeyHits, check_effort, check_k, check_vectors

KeyForm = Literal["ip", "augmented_l2"]
MAX_GPU_HITS = 2048
"""The largest k of FAISS on a GPU, and the most lists that it probes."""


@dataclass(frozen=True, slots=True)
class _IndexKind:
    """One of FAISS's index structures.

    Attributes:
        make: an empty index, from N, D, the metric and the options.
        search_parameters: what FAISS is given for a search with an effort.
        options: their names and defaults.
        effort_option: the option that is the effort of a search; None if there is none to choose.
        runs_on_gpu: whether FAISS has it on a GPU.
        minimums: of options that must be above 1.
    """

    make: Callable[[int, int, int, Mapping[str, int]], Any]
    search_parameters: Callable[[int], Any]
    options: Mapping[str, int]
    effort_option: str | None = None
    runs_on_gpu: bool = True
    minimums: Mapping[str, int] = field(default_factory=dict)


def _make_flat(N: int, D: int, metric: int, options: Mapping[str, int]) -> Any:
    return faiss().IndexFlat(D, metric)


def _make_ivf(N: int, D: int, metric: int, options: Mapping[str, int]) -> Any:
    lists = min(options["lists"] or max(1, round(4 * N**0.5)), N)
    index = faiss().IndexIVFFlat(faiss().IndexFlat(D, metric), D, lists, metric)
    index.cp.min_points_per_centroid = 1  # else FAISS warns on stderr where keys are few
    return index


def _make_hnsw(N: int, D: int, metric: int, options: Mapping[str, int]) -> Any:
    index = faiss().IndexHNSWFlat(D, -(-options["degree"] // 2), metric)
    index.hnsw.efConstruction = options["construction"]
    return index


_KINDS = {
    "flat": _IndexKind(_make_flat, lambda effort: None, {}),
    "ivf": _IndexKind(
        _make_ivf,
        lambda probes: faiss().SearchParametersIVF(nprobe=probes),
        {"lists": 0, "probes": 32},
        "probes",
    ),
    "hnsw": _IndexKind(
        _make_hnsw,
        lambda beam: faiss().SearchParametersHNSW(efSearch=beam),
        {"degree": 32, "construction": 100, "beam": 200},
        "beam",
        runs_on_gpu=False,
        minimums={"degree": 3},  # FAISS crashes on graphs of one link per key
    ),
}


def build(name: str, *, form: KeyForm = "ip", device: str = "cpu", **options: int) -> AnnIndex:
    """Builds an empty index; `add` trains it.

    Args:
        name: `flat`, `ivf` or `hnsw`.
        form: `ip` or `augmented_l2`, as above.
        device: `cpu`; or `cuda` or `cuda:N`, for flat and ivf with a GPU build of FAISS.
        options: for ivf `lists` (4 √N by default) and `probes`, how many are read; for hnsw
            `degree` (neighbours on the lowest level), `construction` and `beam` (efSearch).

    Raises:
        BadInput: no such name, form, device or option.
        MissingExtra: FAISS is not installed, or its build has no GPU.
    """
    on_gpu = re.fullmatch(r"cuda(:(\d+))?", device)
    if name not in _KINDS or form not in get_args(KeyForm) or not (device == "cpu" or on_gpu):
        raise BadInput(
            f"there is no index {name!r} in form {form!r} on {device!r}; names are "
            f"{', '.join(_KINDS)}, forms {', '.join(get_args(KeyForm))}, devices cpu, cuda and "
            "cuda:N"
        )
    kind = _KINDS[name]
    if odd := sorted(set(options) - set(kind.options)):
        raise BadInput(f"{name} has no option {odd}; its options are {[*kind.options] or 'none'}")
    for key, value in options.items():
        if value < (minimum := kind.minimums.get(key, 1)):
            raise BadInput(f"{key}={value} is too small; give at least {minimum}")
    if on_gpu:
        _check_gpu(name, kind, int(on_gpu[2] or 0))
    return AnnIndex(kind, form, device, {**kind.options, **options})


def _check_gpu(name: str, kind: _IndexKind, number: int) -> None:
    if not kind.runs_on_gpu:
        raise BadInput(f"FAISS has no {name} on a GPU; choose ivf or flat, or device='cpu'")
    if not hasattr(faiss(), "StandardGpuResources") or not faiss().get_num_gpus():
        raise MissingExtra("this FAISS sees no GPU: pip uninstall faiss-cpu, then 'tamis-lab[gpu]'")
    if number >= (count := faiss().get_num_gpus()):
        raise BadInput(
            f"device is cuda:{number} and FAISS sees {count}; give cuda:0 to {count - 1}"
        )


@dataclass(frozen=True, slots=True)
class _GpuLists:
    """How many keys each list of an ivf on a GPU has, where FAISS counts no keys that it reads.

    Attributes:
        centroids: an index of the lists' centroids, on the CPU.
        sizes: of the lists.
    """

    centroids: Any
    sizes: NDArray[np.int64]

    @classmethod
    def of(cls, index: Any) -> _GpuLists:
        """The lists of an ivf that is still on the CPU."""
        sizes = [index.invlists.list_size(number) for number in range(index.nlist)]
        return cls(faiss().clone_index(index.quantizer), np.array(sizes, np.int64))

    def count_keys(self, queries: NDArray[np.float32], probes: int) -> int:
        """The keys in the lists that the queries probe."""
        return int(self.sizes[self.centroids.search(queries, probes)[1]].sum())


class AnnIndex:
    """Keys in a FAISS index; made by `build`. Scores are inner products in either form."""

    def __init__(
        self, kind: _IndexKind, form: KeyForm, device: str, options: Mapping[str, int]
    ) -> None:
        faiss()
        self.form, self.device, self.options, self._kind = form, device, options, kind
        self._keys = torch.empty(0, 0)
        self._index: Any = None
        self._gpu_lists: _GpuLists | None = None

    def add(self, keys: Tensor) -> None:
        """Adds `[N, D]` keys, and builds the index of all its keys anew.

        Raises:
            BadInput: no keys, another width than the first ones, or values that are not finite.
        """
        width = self._keys.shape[1] if len(self) else None
        new = check_vectors(keys, width, "keys").cpu()
        if not len(new):
            raise BadInput("there are no keys to add")
        all_keys = torch.cat((self._keys, new)) if len(self) else new
        vectors = to_numpy(self._transform(all_keys - all_keys.mean(0)))
        module = faiss()
        metric = module.METRIC_INNER_PRODUCT if self.form == "ip" else module.METRIC_L2
        index = self._kind.make(len(vectors), vectors.shape[1], metric, self.options)
        index.train(vectors)
        index.add(vectors)
        lists = None
        if self.device != "cpu":
            if self._kind.effort_option == "probes":
                lists = _GpuLists.of(index)
            number = int(self.device.partition(":")[2] or 0)
            index = module.index_cpu_to_gpu(module.StandardGpuResources(), number, index)
        self._keys, self._index, self._gpu_lists = all_keys, index, lists

    def search(self, queries: Tensor, k: int, effort: int | None = None) -> KeyHits:
        """The best keys that the index finds.

        Args:
            effort: probes of ivf or beam of hnsw, in place of what the index was built with.

        Raises:
            BadInput: queries of another width, an effort below 1, no keys were added, or more is
                asked of a GPU than FAISS has there.
        """
        check_k(k)
        check_effort(effort)
        if not len(self):
            raise BadInput("the index is empty; add keys before searching")
        queries = check_vectors(queries, self._keys.shape[1], "queries").cpu()
        is_padded = self.form != "ip"
        padded = to_numpy(torch.nn.functional.pad(queries, (0, 1)) if is_padded else queries)
        if effort is None:
            option = self._kind.effort_option
            effort = self.options[option] if option else 1
        best = min(k, len(self))
        if self.list_count is not None:
            effort = min(effort, self.list_count)
        if self.device != "cpu":
            self._check_gpu_limits(best, effort)
        params = self._kind.search_parameters(effort)
        found, read = search_and_count(lambda: self._index.search(padded, best, params=params))
        if self._gpu_lists is not None:
            read = self._gpu_lists.count_keys(padded, effort)
        ids = to_tensors(found)[1]
        # distances are small differences of large numbers: scores come from the keys themselves
        scores = torch.einsum("qd,qkd->qk", queries, self._keys[ids.clamp_min(0)])
        scores, order = scores.masked_fill(ids < 0, -torch.inf).sort(1, descending=True)
        return pad_hits(
            scores, ids.gather(1, order), k, read + len(queries) * self._uncounted_vectors()
        )

    def _check_gpu_limits(self, k: int, effort: int) -> None:
        for what, asked in (("k", k), ("the effort", effort)):
            if asked > MAX_GPU_HITS:
                raise BadInput(
                    f"{what} is {asked:,} and FAISS on a GPU takes {MAX_GPU_HITS:,} at most; give "
                    "less, or build the index with device='cpu'"
                )

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def list_count(self) -> int | None:
        """How many lists an ivf has; None for the others."""
        return int(self._index.nlist) if self._kind.effort_option == "probes" else None

    def _transform(self, keys: Tensor) -> Tensor:
        """Keys in the index's form: unchanged, or with the coordinate that equalises lengths."""
        if self.form == "ip":
            return keys
        squares = keys.square().sum(1)
        return torch.cat((keys, (squares.max() - squares).clamp_min(0).sqrt()[:, None]), 1)

    def _uncounted_vectors(self) -> int:
        """How many vectors a query reads that FAISS does not count."""
        return len(self) if self._kind.effort_option is None else self.list_count or 1


def to_numpy(vectors: Tensor) -> NDArray[np.float32]:
    """Vectors as FAISS takes them."""
    return np.ascontiguousarray(vectors.cpu().numpy(), dtype=np.float32)


def to_tensors(hits: FaissHits) -> tuple[Tensor, Tensor]:
    """FAISS's scores and ids as tensors."""
    return torch.from_numpy(hits[0]), torch.from_numpy(hits[1])
