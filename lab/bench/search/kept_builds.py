"""Keeps what the bench builds in a folder: a run that was cut short goes on where it was.

FOLDER/training.npy                       [T, H·d] training queries
FOLDER/TOKENS-REAL/source.json            what the keys were taken and drawn from
FOLDER/TOKENS-REAL/keys.npy, starts.npy   keys and chunks of a corpus with drawn chunks
FOLDER/TOKENS-REAL/KIND0_NAME.npy         the array NAME of a structure of head 0
FOLDER/TOKENS-REAL/KIND0.json             what it cost; written last
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis.probes.errors import BadInput
from tamis.retrieval.approximate.types import Floats, KeySearch, Progress
from tamis.retrieval.index.store import CorpusIndex
from tamis.retrieval.storage.files import write_durably
from tamis_lab.bench.search.key_corpus import KeyCorpus, extend_corpus, index_corpus

Costs = dict[str, float]


@dataclass(frozen=True, slots=True)
class KeptBuilds:
    """A folder of corpora and their structures.

    Args:
        drawn_beyond: chunks are drawn beyond so many tokens of text; by default beyond the index.
    """

    folder: Path
    index: CorpusIndex
    heads: int
    drawn_beyond: int | None = None

    def training(self, make: Callable[[], Floats]) -> Floats:
        """The training queries; made where they are not there yet."""
        path = self.folder / "training.npy"
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            _save_whole(path, make())
        queries: Floats = np.load(path)
        return queries

    def corpus(self, tokens: int) -> tuple[KeyCorpus, Path]:
        """The corpus of about so many tokens, and the folder of its structures.

        Raises:
            BadInput: the folder holds those of another index.
        """
        real = index_corpus(self.index, min(tokens, self.drawn_beyond or tokens))
        folder = self.folder / f"{tokens}-{real.real_keys}"
        self._claim(folder)
        if real.real_keys >= tokens - int(np.diff(real.starts).max()):
            return real, folder
        starts = folder / "starts.npy"
        if starts.exists():  # written after the keys
            keys = np.load(folder / "keys.npy", mmap_mode="r")
            return KeyCorpus(keys, np.load(starts), real.real_chunks), folder
        corpus = extend_corpus(real, tokens, self.heads, folder / "keys.npy")
        _save_whole(starts, corpus.starts)
        return corpus, folder

    def _claim(self, folder: Path) -> None:
        """Notes which index a corpus was made of, or checks that it is this one."""
        manifest = self.index.manifest
        source = {
            "index": str(self.index.home.resolve()),
            "segments": [entry.name for entry in manifest.segments],
        }
        note = folder / "source.json"
        if not note.exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_durably(note, json.dumps(source).encode())
        elif json.loads(note.read_text()) != source:
            raise BadInput(
                f"{folder} holds keys of another index, or of another state of it; give another "
                "folder, or delete it"
            )


def build_searches(
    name: str,
    kind: type[KeySearch],
    corpus: KeyCorpus,
    training: Floats,
    heads: int,
    folder: Path,
    report: Progress,
) -> tuple[list[KeySearch], Costs]:
    """The structures of one kind over all heads, and what building them took."""
    searches, costs = [], []
    parts = (np.split(of, heads, axis=1) for of in (corpus.keys, training))
    for head, (keys, trained) in enumerate(zip(*parts, strict=True)):
        start = f"{name}{head}"
        note = folder / f"{start}.json"
        if note.exists():
            report(len(keys))
        else:
            cost = _build(kind, keys, np.ascontiguousarray(trained), folder, start, report)
            write_durably(note, json.dumps(cost).encode())
        costs.append(json.loads(note.read_text()))
        paths = sorted(folder.glob(f"{start}_*.npy"))
        arrays = {p.stem.removeprefix(f"{start}_"): np.load(p, mmap_mode="r") for p in paths}
        searches.append(kind(keys, arrays))
    size = sum(cost["bytes"] for cost in costs)
    total = {key: sum(cost[key] for cost in costs) for key in ("build_s", "build_cpu_s")}
    return searches, total | {"bytes_a_token": size / len(corpus.keys)}


def _build(
    kind: type[KeySearch],
    keys: NDArray[Any],
    training: Floats,
    folder: Path,
    start: str,
    report: Progress,
) -> Costs:
    """Builds the structure of one head into a folder; seconds and bytes."""
    wall, cpu = time.perf_counter(), time.process_time()
    arrays = kind.build(keys, training, report)
    seconds = {
        "build_s": time.perf_counter() - wall,
        "build_cpu_s": time.process_time() - cpu,
        "bytes": float(sum(array.nbytes for array in arrays.values())),
    }
    for name, array in arrays.items():
        np.save(folder / f"{start}_{name}.npy", array)
    return seconds


def _save_whole(path: Path, values: NDArray[Any]) -> None:
    """Writes an array so that no part of it is ever taken for the whole."""
    part = path.with_suffix(".part.npy")
    np.save(part, values)
    part.replace(path)
