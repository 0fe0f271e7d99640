"""Passages read once and asked for ever: their keys and values, in memory and on disk.

    cache = PassageCache(max_bytes=2 << 30, folder="passages")
    reader = CachedReader(proxy, cache)      # reads like the proxy, and the second time only asks

A passage's keys and values depend on the model, on the template's opening and on the passage's own
tokens, never on the question (RAGCache, arXiv 2404.12457, and TurboRAG, arXiv 2410.07590, keep them
for generation; here every passage is read alone, so nothing has to be repaired when it is kept).
The key of an entry names all that they depend on, so an entry is never stale; it is only unused.
"""

from __future__ import annotations

import threading
from array import array
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from tamis.probes.attention.int8 import Int8KVLayer, Int8Vectors
from tamis.probes.attention.kv_layers import KVLayers, move_kv
from tamis.probes.attention.recorder import KVLayer
from tamis.probes.errors import BadInput, BadModelFile
from tamis.probes.kv_cache.disk import CacheFiles, DamagedFile
from tamis.probes.kv_cache.key import UNVERSIONED, fingerprint
from tamis.probes.model.proxy import Proxy
from tamis.probes.prompt import Prompt, Template
from tamis.probes.signal import Signal, Want

Storage = Literal["exact", "int8"]


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What is kept, and what it was good for since the cache was opened.

    Attributes:
        entries, bytes: in memory. files, file_bytes: on disk, by whomever they were written.
        hits: passages found in memory or on disk; disk_hits: those on disk. misses: not found.
        evicted: dropped from memory for room. dropped: damaged or foreign files that were deleted.
        unwritten: entries that the disk would not take.
    """

    entries: int = 0
    bytes: int = 0
    files: int = 0
    file_bytes: int = 0
    hits: int = 0
    disk_hits: int = 0
    misses: int = 0
    evicted: int = 0
    dropped: int = 0
    unwritten: int = 0


class PassageCache:
    """Keys and values of passages; those not used for longest leave first. Threads may share it.

    Args:
        max_bytes: of memory. A token of 20 layers of the default proxy takes 15 kB, in int8 8 kB.
        folder: also keep them there, for other processes and the next start. None for memory alone.
        storage: `exact`, or `int8` for half the bytes, at a loss (docs/log/kept-passages.md).
        max_disk_bytes: of the folder.

    Raises:
        BadInput: a limit or storage that is none, or a folder that cannot be written.
    """

    def __init__(
        self,
        max_bytes: int = 1 << 30,
        folder: str | Path | None = None,
        storage: Storage = "exact",
        max_disk_bytes: int = 16 << 30,
    ) -> None:
        for name, value in (("max_bytes", max_bytes), ("max_disk_bytes", max_disk_bytes)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise BadInput(f"{name} is {value!r}; give a whole number of bytes, at least 1")
        if storage not in ("exact", "int8"):
            raise BadInput(f"storage is {storage!r}; give 'exact' or 'int8'")
        self.max_bytes, self.storage = max_bytes, storage
        self.files = (
            CacheFiles(Path(folder), max_disk_bytes).prepare() if folder is not None else None
        )
        self._entries: OrderedDict[str, KVLayers] = OrderedDict()
        self._bytes = 0
        self._counts = dict.fromkeys(
            ("hits", "disk_hits", "misses", "evicted", "dropped", "unwritten"), 0
        )
        self._lock = threading.Lock()

    def get(self, key: str, layers: int, device: str | torch.device = "cpu") -> KVLayers | None:
        """An entry of at least so many layers; None, and counted as a miss, if there is none.

        What comes from disk is put on the device, and stays there.
        """
        with self._lock:
            held = self._entries.get(key)
            if held is not None:
                self._entries.move_to_end(key)
        found = held if held is not None else self._load_from_disk(key, device)
        enough = found is not None and len(found) >= layers
        self._count("hits" if enough else "misses")
        if enough and held is None:
            self._count("disk_hits")
        return found if enough else None

    def holds(self, key: str) -> bool:
        """Whether an entry is in memory; nothing is loaded and nothing counted."""
        with self._lock:
            return key in self._entries

    def put(self, key: str, kept: Sequence[KVLayer], about: dict[str, str]) -> None:
        """Keeps an entry, in place of a shallower one of the same key."""
        held: KVLayers = kept
        if self.storage == "int8":
            held = [Int8KVLayer(Int8Vectors.quantize(one.keys), Int8Vectors.quantize(one.values)) for one in kept]
        self._store_in_memory(key, held)
        if self.files and not self.files.store(key, held, about | {"storage": self.storage}):
            self._count("unwritten")

    def stats(self) -> CacheStats:
        """Counts and sizes, now."""
        files = self.files.size() if self.files else (0, 0)
        with self._lock:
            return CacheStats(len(self._entries), self._bytes, *files, **self._counts)

    def clear(self) -> None:
        """Forgets everything, on disk too."""
        with self._lock:
            self._entries.clear()
            self._bytes = 0
        if self.files:
            self.files.clear()

    def verify(self, drop: bool = False) -> list[DamagedFile]:
        """Reads every file whole and names those that are damaged; `drop` deletes them."""
        if self.files is None:
            return []
        faults = [fault for fault in self.files.check_files() if fault]
        for fault in faults if drop else ():
            self.files.drop(fault.file.stem)
        return faults

    def _load_from_disk(self, key: str, device: str | torch.device) -> KVLayers | None:
        if self.files is None:
            return None
        try:
            held = self.files.load(key)
        except BadModelFile:
            self.files.drop(key)
            self._count("dropped")
            return None
        if held is None:
            return None
        held = move_kv(held, device)
        self._store_in_memory(key, held)
        return held

    def _store_in_memory(self, key: str, held: KVLayers) -> None:
        size = sum(map(_layer_bytes, held))
        with self._lock:
            if (before := self._entries.pop(key, None)) is not None:
                self._bytes -= sum(map(_layer_bytes, before))
            if size > self.max_bytes:
                return  # it alone is too large
            self._entries[key] = held
            self._bytes += size
            while self._bytes > self.max_bytes:
                _, oldest = self._entries.popitem(last=False)
                self._bytes -= sum(map(_layer_bytes, oldest))
                self._counts["evicted"] += 1

    def _count(self, name: str) -> None:
        with self._lock:
            self._counts[name] += 1


def _layer_bytes(layer: KVLayer | Int8KVLayer) -> int:
    if isinstance(layer, KVLayer):
        return layer.keys.nbytes + layer.values.nbytes
    parts = (layer.keys, layer.values)
    return sum(part.codes.nbytes + part.scales.nbytes for part in parts)


class CachedReader:
    """Reads like its proxy; of a passage that is kept, only the question runs.

    Equal to `Proxy.read` within the rounding of the dtype. A passage read for the first time is
    kept in the same pass. Several readers and threads may share a cache; passages of different
    models never meet.

    Raises:
        BadInput: the cache has a folder, and the proxy no revision to name its files by.
    """

    def __init__(self, proxy: Proxy, cache: PassageCache) -> None:
        self.proxy, self.cache = proxy, cache
        self.card, self.layout = proxy.card, proxy.layout
        if cache.files and proxy.card.revision == UNVERSIONED:
            raise BadInput(
                f"{proxy.card.name} has no revision, so passages on disk could be taken for those "
                "of another model; give Proxy.from_model(..., revision=...), or a cache without a "
                "folder"
            )
        self._metadata = {"model": proxy.card.name, "revision": proxy.card.revision}
        self._model = fingerprint(proxy, cache.storage)

    def with_template(self, template: Template) -> CachedReader:
        """The same model and cache, in other words."""
        return CachedReader(self.proxy.with_template(template), self.cache)

    def key(self, prompt: Prompt) -> str:
        """What names a prompt's passage: model, template and tokens, title included; 64 digits."""
        digest = self._model.copy()
        digest.update(array("q", prompt.passage.ids).tobytes())
        return str(digest.hexdigest())

    def read(self, prompts: Sequence[Prompt], want: Want) -> Iterator[Signal]:
        """As `Proxy.read`; `Signal.cached_tokens` says how many tokens did not run.

        Raises:
            BadInput: as `Proxy.read`.
        """
        turn = _CacheBatch(self.proxy.batch_tokens)
        for prompt in prompts:
            key = self.key(prompt)
            if key in turn.cold:  # the same passage again: once it is kept, it need only be asked
                yield from self._run(turn, want)
                turn = _CacheBatch(self.proxy.batch_tokens)
            held = self.cache.get(key, want.depth, self.proxy.device)
            if turn.is_full(prompt, held):
                yield from self._run(turn, want)
                turn = _CacheBatch(self.proxy.batch_tokens)
            turn.add(prompt, key, held)
        yield from self._run(turn, want)

    def _run(self, turn: _CacheBatch, want: Want) -> Iterator[Signal]:
        """Reads what is new, asks what is kept, and yields both in the order they came in."""
        read = self.proxy.read_with_kv([turn.prompts[i] for i in turn.cold.values()], want)
        seen: dict[int, Signal] = {}
        for (key, i), (signal, kept) in zip(turn.cold.items(), read, strict=True):
            seen[i] = signal
            if turn.prompts[i].passage.ids:
                about = self._metadata | {"tokens": str(len(turn.prompts[i].passage.ids))}
                self.cache.put(key, kept, about)
        warm = [turn.prompts[i] for i in turn.warm]
        asked = self.proxy.read_cached(warm, list(turn.warm.values()), want)
        seen |= zip(turn.warm, asked, strict=True)
        yield from (seen.pop(i) for i in range(len(turn.prompts)))


@dataclass(slots=True)
class _CacheBatch:
    """Consecutive prompts that are read or asked together, at most a batch of each."""

    batch_tokens: int
    prompts: list[Prompt] = field(default_factory=list)
    cold: dict[str, int] = field(default_factory=dict)
    warm: dict[int, KVLayers] = field(default_factory=dict)
    tokens: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})

    def is_full(self, prompt: Prompt, held: KVLayers | None) -> bool:
        """Whether the prompt's kind has no room for it; an empty batch takes any."""
        there = self.tokens[held is not None]
        return bool(there) and there + _tokens_to_run(prompt, held) > self.batch_tokens

    def add(self, prompt: Prompt, key: str, held: KVLayers | None) -> None:
        """Takes a prompt, to be asked if it is kept, else to be read."""
        if held is None:
            self.cold[key] = len(self.prompts)
        else:
            self.warm[len(self.prompts)] = held
        self.tokens[held is not None] += _tokens_to_run(prompt, held)
        self.prompts.append(prompt)


def _tokens_to_run(prompt: Prompt, held: KVLayers | None) -> int:
    return len(prompt) if held is None else len(prompt.question.ids)
