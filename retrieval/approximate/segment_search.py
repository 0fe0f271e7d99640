"""The search structures of a segment: built into its folder, and opened from its files.

graphn_NAME.npy     the array NAME of the graph over the keys of head n
floor_NAME.npy      the array NAME of what chunks are compared with, `FittedFloor`
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from tamis.probes.errors import BadInput
from tamis.retrieval.approximate.types import Floats, KeySearch, Progress
from tamis.retrieval.keys.late_interaction import FittedFloor, fit_floor
from tamis.retrieval.storage.files import CheckedFile, save_array

SearchKind = Literal["auto", "exact", "graph"]
AUTO_KEYS = 400_000
"""A segment with fewer keys stays exact: reading them all takes no longer than a walk."""
_GRAPH = "graph"


def check_kind(kind: str) -> None:
    """Refuses what is no kind of search.

    Raises:
        BadInput: with the kinds there are.
    """
    if kind not in get_args(SearchKind):
        raise BadInput(
            f"there is no search {kind!r}; choose from {', '.join(get_args(SearchKind))}"
        )


def kind_for(wanted: str, keys: int) -> str:
    """The kind of structure for a segment of so many keys: `graph`, or `exact` for none."""
    if wanted != "auto":
        return wanted if keys else "exact"
    return "exact" if keys < AUTO_KEYS else "graph"


def build_graphs(folder: Path, heads: int, queries: Floats | None, report: Progress) -> None:
    """Builds a graph for each head over the keys in a segment's folder, and writes it there.

    With training queries, also the floor that chunks are compared with.

    Args:
        queries: `[T, H·d]` training queries.
    """
    # imported on demand, since a search of words needs no torch
    from tamis.retrieval.approximate.graph import GraphSearch

    keys = np.load(folder / "keys.npy", mmap_mode="r")
    for head, own in enumerate(np.split(keys, heads, axis=1)):
        asked = None if queries is None else np.split(queries, heads, axis=1)[head]
        trained = None if asked is None else np.ascontiguousarray(asked)
        for name, array in GraphSearch.build(own, trained, report).items():
            save_array(folder / f"{_GRAPH}{head}_{name}.npy", array)
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
    return _GRAPH if any(name.startswith(f"{_GRAPH}0_") for name in names) else "exact"


def open_structures(files: Mapping[str, CheckedFile], heads: int) -> Sequence[KeySearch]:
    """The structures of a segment, one a head; empty where it has none.

    Raises:
        BadIndex: bytes are not those that were written.
    """
    if structure_kind(files) == "exact":
        return ()
    from tamis.retrieval.approximate.graph import GraphSearch

    opened = []
    for head, keys in enumerate(np.split(files["keys.npy"].array(), heads, axis=1)):
        start = f"{_GRAPH}{head}_"
        arrays = {
            name.removeprefix(start).removesuffix(".npy"): file.array()
            for name, file in files.items()
            if name.startswith(start)
        }
        opened.append(GraphSearch(keys, arrays))
    return opened
