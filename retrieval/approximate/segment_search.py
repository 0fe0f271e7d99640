"""The search structures of a segment: built into its folder, and opened from its files.

KINDn_NAME.npy      the array NAME of the structure KIND over the keys of head n
floor_NAME.npy      the array NAME of what chunks are compared with, `FittedFloor`

The structure `ivf` is FAISS's IVF over one head's keys: clusters, of which the nearest to a query
are read whole. FAISS compares bytes: it rounds query vectors, too. What it finds is scored again,
exactly.

ivf0_index.npy      the index as FAISS writes it, `IndexIVFScalarQuantizer` with 8 signed bits
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tamis.probes.errors import BadInput
from tamis.probes.extras import needing
from tamis.retrieval.approximate.types import Arrays, Floats, FoundKeys, KeySearch, Progress
from tamis.retrieval.keys.late_interaction import FittedFloor, fit_floor
from tamis.retrieval.storage.files import CheckedFile, save_array

PROBES = 64
KEYS_FOUND = 512
SAMPLE_KEYS = 1 << 17
ROUNDS = 10
_BLOCK_KEYS = 1 << 16
_BYTE = 127
_counting_lock = threading.Lock()
FaissHits = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Scores or distances, and ids."""


def faiss() -> Any:
    """The module `faiss`.

    Raises:
        MissingExtra: it is not installed; the searches `exact` and `graph` do not need it.
    """
    with needing(
        "approximate search needs FAISS: pip install 'tamis[retrieval]' (tamis[gpu] on a CUDA "
        "machine, never both); the searches exact and graph need neither"
    ):
        import faiss as module
    return module


def search_and_count(search: Callable[[], FaissHits]) -> tuple[FaissHits, int]:
    """Runs a search; returns its hits, and how many distances it computed on all levels of a graph.

    FAISS counts the distances of all threads in one counter, so counted searches run one at a time.
    On a GPU it counts nothing.
    """
    module = faiss()
    graph, clusters = module.cvar.hnsw_stats, module.cvar.indexIVF_stats
    with _counting_lock:
        before = graph.ndis + clusters.ndis
        found = search()
        return found, int(graph.ndis + clusters.ndis - before)


class IvfSearch:
    """Finds keys of one head by inner product with FAISS's IVF.

    Raises:
        MissingExtra: FAISS is not installed.
    """

    def __init__(self, keys: NDArray[Any], arrays: Arrays) -> None:
        module = faiss()
        self._keys, self._bytes = keys, arrays["index"]  # read in place
        reader = module.ZeroCopyIOReader(module.swig_ptr(self._bytes), self._bytes.size)
        self._index = module.read_index(reader, module.IO_FLAG_MMAP_IFC)
        self._reader = reader

    @staticmethod
    def build(keys: NDArray[Any], queries: Floats | None, report: Progress) -> Arrays:
        """The index of `[N, d]` int8 keys, with 4 √N clusters; queries change nothing."""
        module = faiss()
        N, d = keys.shape
        lists = min(N, max(1, round(4 * N**0.5)))
        product = module.METRIC_INNER_PRODUCT
        index = module.IndexIVFScalarQuantizer(
            module.IndexFlat(d, product),
            d,
            lists,
            module.ScalarQuantizer.QT_8bit_direct_signed,
            product,
        )
        index.by_residual = False
        index.cp.niter = ROUNDS
        index.cp.min_points_per_centroid = 1  # else FAISS warns on stderr where keys are few
        index.train(keys[:: -(-N // SAMPLE_KEYS)].astype(np.float32))
        for start in range(0, N, _BLOCK_KEYS):
            part = keys[start : start + _BLOCK_KEYS].astype(np.float32)
            index.add(part)
            report(len(part))
        return {"index": module.serialize_index(index)}

    def find(self, queries: Floats, effort: float = 1.0) -> FoundKeys:
        """The best keys in the clusters nearest to each query."""
        probes = min(int(self._index.nlist), max(1, round(PROBES * effort)))
        params = faiss().SearchParametersIVF(nprobe=probes)
        k = min(int(self._index.ntotal), max(1, round(KEYS_FOUND * effort)))
        found = search_bytes(self._index, self._keys, queries, k, params)
        return replace(found, read=found.read + len(queries) * int(self._index.nlist))


def search_bytes(index: Any, keys: NDArray[Any], queries: Floats, k: int, params: Any) -> FoundKeys:
    """The keys that a FAISS index of `[N, d]` int8 keys finds, with exact inner products.

    Args:
        k: at most so many for each of `[R, d]` queries.
        params: FAISS's search parameters.
    """
    largest = np.maximum(np.abs(queries).max(1, keepdims=True), 1e-9)
    whole = np.ascontiguousarray(np.rint(queries * (_BYTE / largest)), np.float32)
    (_, ids), read = search_and_count(lambda: index.search(whole, k, params=params))
    rows, columns = np.nonzero(ids >= 0)
    found = ids[rows, columns]
    scores = np.einsum("fd,fd->f", queries[rows], keys[found].astype(np.float32))
    return FoundKeys(rows, found, scores, read)


SearchKind = Literal["auto", "exact", "graph", "ivf"]
KINDS = ("graph", "ivf")
AUTO_KEYS = 400_000
"""A segment with fewer keys stays exact: reading them all takes no longer than a walk."""


def check_kind(kind: str) -> None:
    """Refuses what is no kind of search.

    Raises:
        BadInput: with the kinds there are. MissingExtra: it needs FAISS, which is not installed.
    """
    if kind not in get_args(SearchKind):
        raise BadInput(
            f"there is no search {kind!r}; choose from {', '.join(get_args(SearchKind))}"
        )
    if kind == "ivf":
        faiss()


def structure_class(kind: str) -> type[KeySearch]:
    """The class of a structure; imported on demand, since a search of words needs no torch."""
    if kind == "ivf":
        return IvfSearch
    from tamis.retrieval.approximate.graph import GraphSearch

    return GraphSearch


def kind_for(wanted: str, keys: int) -> str:
    """The kind of structure for a segment of so many keys: `graph`, `ivf`, or `exact` for none."""
    if wanted != "auto":
        return wanted if keys else "exact"
    return "exact" if keys < AUTO_KEYS else "graph"


def build_structures(
    folder: Path, kind: str, heads: int, queries: Floats | None, report: Progress
) -> None:
    """Builds a structure for each head over the keys in a segment's folder, and writes it there.

    With training queries, also the floor that chunks are compared with.

    Args:
        queries: `[T, H·d]` training queries.

    Raises:
        MissingExtra: it needs FAISS, which is not installed.
    """
    keys = np.load(folder / "keys.npy", mmap_mode="r")
    for head, own in enumerate(np.split(keys, heads, axis=1)):
        asked = None if queries is None else np.split(queries, heads, axis=1)[head]
        trained = None if asked is None else np.ascontiguousarray(asked)
        for name, array in structure_class(kind).build(own, trained, report).items():
            save_array(folder / f"{kind}{head}_{name}.npy", array)
    if queries is not None:
        floor = fit_floor(keys, np.load(folder / "key_starts.npy"), queries, heads)
        for name in FLOOR_FILES if floor else ():
            save_array(folder / name, getattr(floor, name.removeprefix("floor_")[:-4]))


FLOOR_FILES = tuple(f"floor_{field.name}.npy" for field in fields(FittedFloor))


def has_floor(names: Iterable[str]) -> bool:
    """Whether a segment of files of these names has a floor."""
    return set(FLOOR_FILES) <= set(names)


def read_floor(files: Mapping[str, CheckedFile]) -> FittedFloor | None:
    """The floor of a segment; None where none was fitted.

    Raises:
        BadIndex: bytes are not those that were written.
    """
    return FittedFloor(*(files[n].array() for n in FLOOR_FILES)) if has_floor(files) else None


def structure_kind(names: Iterable[str]) -> str:
    """The kind of structure that a segment of files of these names has; `exact` for none."""
    has = {name.split("0_")[0] for name in names}
    return next((kind for kind in KINDS if kind in has), "exact")


def open_structures(files: Mapping[str, CheckedFile], heads: int) -> Sequence[KeySearch]:
    """The structures of a segment, one a head; empty where it has none.

    Raises:
        BadIndex: bytes are not those that were written. MissingExtra: they are FAISS's.
    """
    kind = structure_kind(files)
    if kind == "exact":
        return ()
    opened = []
    for head, keys in enumerate(np.split(files["keys.npy"].array(), heads, axis=1)):
        start = f"{kind}{head}_"
        arrays = {
            name.removeprefix(start).removesuffix(".npy"): file.array()
            for name, file in files.items()
            if name.startswith(start)
        }
        opened.append(structure_class(kind)(keys, arrays))
    return opened
