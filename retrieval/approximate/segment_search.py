"""The search structures of a segment: built into its folder, and opened from its files.

KINDn_NAME.npy      the array NAME of the structure KIND over the keys of head n
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from tamis.probes.errors import BadInput
from tamis.retrieval.approximate.types import Floats, KeySearch, Progress
from tamis.retrieval.storage.files import CheckedFile, save_array

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
        from tamis.retrieval.approximate.ivf import faiss

        faiss()


def structure_class(kind: str) -> type[KeySearch]:
    """The class of a structure; imported on demand, since a search of words needs no torch."""
    if kind == "ivf":
        from tamis.retrieval.approximate.ivf import IvfSearch

        return IvfSearch
    from tamis.retrieval.approximate.graph import GraphSearch

    return GraphSearch


def kind_for(wanted: str, keys: int) -> str:
    """The kind of structure for a segment of so many keys: `graph`, `ivf`, or `exact` for none."""
    if keys < AUTO_KEYS:
        return "exact"
    return "graph" if wanted == "auto" else wanted


def build_structures(
    folder: Path, kind: str, heads: int, queries: Floats | None, report: Progress
) -> None:
    """Builds a structure for each head over the keys in a segment's folder, and writes it there.

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
