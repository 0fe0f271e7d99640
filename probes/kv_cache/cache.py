"""A cache of the keys and values of passages, in memory and on disk.

    cache = PassageCache(max_bytes=2 << 30, folder="passages")
    reader = CachedReader(proxy, cache)      # reads like the proxy; runs each passage only once

A passage's keys and values depend on the model, on the template's opening and on the passage's own
tokens, never on the question (RAGCache, arXiv 2404.12457, and TurboRAG, arXiv 2410.07590, keep them
for generation; here every passage is read alone, so cached keys need no correction). The cache key
of an entry covers everything that they depend on, so an entry never becomes stale, only unused.

A passage whose reading paused after n layers has an entry of n layers; if it was read on, the
layers from n on are an entry of their own. So what is not needed is neither kept nor loaded.
"""

from __future__ import annotations

import hashlib
import json
import threading
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from tamis.probes.attention import batched
from tamis.probes.attention.kv_layers import KVLayers, StoredKVLayer, entry_device, move_kv
from tamis.probes.attention.recorder import KVLayer
from tamis.probes.devices import free_bytes
from tamis.probes.errors import BadInput, BadModelFile
from tamis.probes.kv_cache.codec import CodecMissing, KVCodec, shipped_codec
from tamis.probes.kv_cache.disk import CacheFiles, DamagedFile
from tamis.probes.kv_cache.serialization import FORMAT, vectors_key
from tamis.probes.kv_cache.storage import (
    STORAGES,
    Storage,
    has_values,
    layer_bytes,
    storage_identity,
    store_batch,
    store_layers,
)
from tamis.probes.lru import LruCache
from tamis.probes.model.proxy import Proxy
from tamis.probes.prompt import MAX_TWINS, Prompt, Template
from tamis.probes.signal import Signal, Want

UNVERSIONED = "unversioned"
"""The revision of a model that was wrapped without giving one."""

# configuration entries about loading and generating, which do not affect the keys of a layer
_NOT_THE_MODEL = {
    "num_hidden_layers",
    "_name_or_path",
    "transformers_version",
    "dtype",
    "architectures",
    "use_cache",
}
_nonces: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


def rest_key(key: str, first: int) -> str:
    """The key of a passage's layers from `first` on, where those before are an entry of their own.

    Args:
        key: of the passage.
    """
    return hashlib.sha256(f"{key} from layer {first}".encode()).hexdigest()


def fingerprint(proxy: Proxy, storage: Storage, codec: KVCodec | None = None) -> Any:
    """A SHA-256 object over everything but the passage's tokens; with those added, it is the key.

    The number of layers that the proxy was loaded with is left out: deeper layers do not affect the
    others, and an entry knows how many it has. The configuration is that of `Proxy.body`: once
    `Proxy.model` was accessed, it includes transformers' defaults, and earlier entries are missed.
    """
    revision = proxy.card.revision
    if revision == UNVERSIONED:  # then only this model object, in this process, has the same key
        revision = _nonces.setdefault(proxy.body, uuid4().hex)
    config = proxy.body.config.to_dict()
    identity = {
        "format": FORMAT,
        "storage": storage_identity(storage, codec),
        "transformers": version("transformers"),
        "revision": revision,
        "config": {name: value for name, value in config.items() if name not in _NOT_THE_MODEL},
        "arithmetic": proxy.arithmetic,
        "opening": proxy.layout.opening,
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode())


@dataclass(frozen=True, slots=True)
class CacheStats:
    """The size of a cache, and its use since it was opened.

    Attributes:
        entries, bytes: in memory.
        files, file_bytes: on disk, whichever process wrote them.
        hits: passages found in memory or on disk.
        disk_hits: passages found on disk, or in the source.
        misses: passages not found.
        evicted: entries removed from memory to make room.
        dropped: damaged or foreign files that were deleted.
        unread: entries on disk that could not be read at that moment; they stay.
        unwritten: entries that could not be written to disk.
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
    unread: int = 0
    unwritten: int = 0


class PassageSource(Protocol):
    """Where else entries may be found: read-only, such as an index that keeps them."""

    def load(self, key: str) -> KVLayers | None:
        """An entry, checked; None if there is none."""

    def load_vectors(self, key: str) -> Tensor | None:
        """The vectors of a passage's units, checked, `[U, D]`; None if there are none."""


class PassageCache:
    """Keys and values of passages; the least recently used are evicted. Threads may share it.

    Args:
        max_bytes: of memory. A token in 20 layers of the default proxy takes 15 kB, in int8 8 kB,
            thin 2 kB.
        folder: also keep entries there, for other processes and later runs; None for memory only.
        storage: `exact`, or `int8` for half the bytes, or `thin` for a seventh, each at a loss: a
            passage's first reading is exact, later ones are of what was kept. Figures:
            lab/log/kept-passages.md#2026-11-24-storage-in-8-bits and
            lab/log/thin.md#2026-11-27-keys-and-values-coded-together.
        codec: of `thin`, a file of `tamis lab fit-codec`; by default the one that ships for the
            model that reads. A model without one is kept in 2 bits a component, which loses more.
        max_disk_bytes: of the folder.
        source: looked at for what is in neither; its entries are of this storage.
        max_device_bytes: how many of the bytes in memory may be a graphics card's; entries beyond
            stay with the host, and are copied to it, a whole batch at once, when they are read.
            None is a quarter of what is free there when the first entry comes.

    Raises:
        BadInput: an invalid limit or storage, a codec without `thin`, or a folder that cannot be
            written. BadModelFile: the codec cannot be read.
    """

    def __init__(
        self,
        max_bytes: int = 1 << 30,
        folder: str | Path | None = None,
        storage: Storage = "exact",
        max_disk_bytes: int = 16 << 30,
        source: PassageSource | None = None,
        codec: KVCodec | str | Path | None = None,
        max_device_bytes: int | None = None,
    ) -> None:
        limits = {"max_bytes": max_bytes, "max_disk_bytes": max_disk_bytes}
        if max_device_bytes is not None:
            limits["max_device_bytes"] = max_device_bytes
        for name, value in limits.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise BadInput(f"{name} is {value!r}; give a whole number of bytes, at least 1")
        if storage not in STORAGES:
            raise BadInput(f"storage is {storage!r}; give one of {', '.join(STORAGES)}")
        if codec is not None and storage != "thin":
            raise BadInput(f"a codec is given, and storage is {storage!r}; give storage='thin'")
        self.max_bytes, self.storage, self.source = max_bytes, storage, source
        self.codec = KVCodec.load(Path(codec)) if isinstance(codec, str | Path) else codec
        self.files = (
            CacheFiles(Path(folder), max_disk_bytes).prepare() if folder is not None else None
        )
        self._entries = LruCache[KVLayers](max_bytes, max_bytes)
        self._device_bytes = 0
        self._max_device_bytes = max_device_bytes
        self._counts = dict.fromkeys(
            ("hits", "disk_hits", "misses", "evicted", "dropped", "unread", "unwritten"), 0
        )
        self._lock = threading.Lock()

    def get(self, key: str, layers: int, may_go_on: bool = False) -> KVLayers | None:
        """An entry of at least so many layers; None, counted as a miss, if there is none.

        It is on the device where it is kept, the host's where it comes from disk.

        Args:
            may_go_on: whether the reading may go on behind them: then with all their values.
        """
        in_memory = self._entries.peek(key)
        entry = in_memory if in_memory is not None else self._load_from_disk(key)
        if entry is not None and len(entry) < layers + may_go_on and not has_values(entry[-1]):
            entry = None
        if entry is not None and len(entry) < layers:
            rest = self.get_rest(key, len(entry), layers, may_go_on)
            entry = None if rest is None else [*entry, *rest]
        self._count("misses" if entry is None else "hits")
        if entry is not None and in_memory is None:
            self._count("disk_hits")
        return entry

    def get_rest(
        self, key: str, first: int, layers: int, may_go_on: bool = False
    ) -> KVLayers | None:
        """The layers from `first` on, to at least `layers`, of an entry that ends before them.

        None if some of them are missing; nothing is counted.

        Args:
            may_go_on: as for `get`.
        """
        found: list[StoredKVLayer] = []
        while first + len(found) < layers:
            part = self._peek(rest_key(key, first + len(found)))
            if not part:
                return None
            found += part
            if first + len(found) < layers + may_go_on and not has_values(found[-1]):
                return None
        return found

    @property
    def may_have_vectors(self) -> bool:
        """Whether there is a source, which alone may keep vectors of units."""
        return self.source is not None

    def find_vectors(self, encoder: str, texts: Sequence[str]) -> Tensor | None:
        """The vectors of a passage's units that the source keeps, `[U, D]`; None if it has none.

        Args:
            encoder: as for `vectors_key`. texts: of all units of the passage.
        """
        if self.source is None:
            return None
        return self.source.load_vectors(vectors_key(encoder, texts))

    def _peek(self, key: str) -> KVLayers | None:
        """An entry of any number of layers; nothing is counted."""
        entry = self._entries.peek(key)
        return entry if entry is not None else self._load_from_disk(key)

    def holds(self, key: str) -> bool:
        """Whether an entry is in memory; loads nothing and counts nothing."""
        return key in self._entries

    def put(
        self,
        key: str,
        kept: Sequence[KVLayer],
        about: dict[str, str],
        may_go_on: bool = False,
        codec: KVCodec | None = None,
        first: int = 0,
    ) -> None:
        """Stores an entry; replaces one of the same key, which may have fewer layers.

        Args:
            may_go_on: whether deeper layers may follow as an entry of their own.
            codec: of the model, see `codec_for`. first: the model's layer that the first one is.
        """
        entry = store_layers(kept, self.storage, may_go_on, codec, first)
        self._store_in_memory(key, entry)
        about = about | {"storage": self.storage}
        if self.files and not self.files.store(key, entry, about, codec):
            self._count("unwritten")

    def put_batch(
        self, entries: Sequence[tuple[str, KVLayers, dict[str, str]]], codec: KVCodec | None = None
    ) -> None:
        """Stores entries of one batch that are on a device, as `store_batch` made them.

        What has no room there, or also goes to disk, is copied to the host in one copy.

        Args:
            entries: the key of each, its layers, and what it is about. codec: as for `put`.
        """
        if not entries:
            return
        device, needed = entry_device(entries[0][1]), 0
        staying: list[int] = []
        leaving: list[int] = []
        for n, (_, entry, _) in enumerate(entries):
            needed += (size := sum(map(layer_bytes, entry)))
            fits = needed <= self._device_room(device)
            needed -= 0 if fits else size
            (staying if fits else leaving).append(n)
        copied = range(len(entries)) if self.files else leaving
        on_host: dict[int, KVLayers] = {}
        if copied:
            moved = move_kv([entries[n][1] for n in copied], "cpu", own=True)
            on_host = dict(zip(copied, moved, strict=True))
        for n, (key, entry, about) in enumerate(entries):
            self._store_in_memory(key, entry if n in staying else on_host[n])
            about = about | {"storage": self.storage}
            if self.files and not self.files.store(key, on_host[n], about, codec):
                self._count("unwritten")

    def move_to_device(
        self, keys: Sequence[str], entries: Sequence[KVLayers], device: torch.device
    ) -> list[KVLayers]:
        """Entries on a device, those of the host in one copy; they stay there where there is room.

        Args:
            keys: under which each is kept.
        """
        found = [list(entry) for entry in entries]
        away = {
            n: places
            for n, entry in enumerate(entries)
            if (places := [i for i, one in enumerate(entry) if entry_device([one]) != device])
        }
        if not away:
            return list(entries)
        parts = [[entries[n][i] for i in places] for n, places in away.items()]
        stay = sum(layer_bytes(one) for part in parts for one in part) <= self._device_room(device)
        for (n, places), part in zip(away.items(), move_kv(parts, device, stay), strict=True):
            for i, layer in zip(places, part, strict=True):
                found[n][i] = layer
            if stay:
                self._replace_in_memory(keys[n], found[n])
        return list(found)

    def _device_room(self, device: torch.device) -> int:
        """Bytes that further entries may have on a device."""
        with self._lock:
            if self._max_device_bytes is None:
                free = free_bytes(device)
                self._max_device_bytes = self.max_bytes if free is None else free // 4
            return self._max_device_bytes - self._device_bytes

    def _replace_in_memory(self, key: str, entry: KVLayers) -> None:
        """Puts an entry in the place of the same on another device, if that is still there."""
        with self._lock:
            before = self._entries.peek(key)
            if before is not None and len(before) == len(entry):
                self._put(key, entry)

    def codec_for(self, proxy: Proxy) -> KVCodec | None:
        """What codes the passages of a proxy here; None where they are not coded.

        A codec is for one length of the template's opening, which keys are rotated by.

        Raises:
            ProbeMismatch: the cache was given the codec of another model.
        """
        if self.storage != "thin":
            return None
        codec = self.codec
        if codec is not None:
            codec.check(proxy.card)
        else:
            codec = shipped_codec(proxy.card)
        return codec if codec and codec.card.opening == len(proxy.layout.opening) else None

    def stats(self, with_files: bool = True) -> CacheStats:
        """The current counts and sizes.

        Args:
            with_files: whether to measure the folder, which walks all of it.

        Raises:
            OSError: the folder cannot be listed at present.
        """
        files = self.files.size() if self.files and with_files else (0, 0)
        with self._lock:
            kept = self._entries
            return CacheStats(len(kept), kept.total_cost, *files, **self._counts)

    def clear(self) -> None:
        """Deletes all entries, in memory and on disk."""
        with self._lock:
            self._entries.clear()
            self._device_bytes = 0
        if self.files:
            self.files.clear()

    def verify(self, drop: bool = False) -> list[DamagedFile]:
        """Reads and checks every file; returns the damaged ones, and deletes them if `drop`.

        A file that cannot be read at present is among them, and is never deleted.
        """
        if self.files is None:
            return []
        damaged = [one for one in self.files.check_files() if one]
        for one in damaged if drop else ():
            self.files.drop_damaged(one)
        return damaged

    def _load_from_disk(self, key: str) -> KVLayers | None:
        entry = self._load_file(key)
        if entry is None and self.source is not None:
            entry = self.source.load(key)
        if entry is None:
            return None
        self._store_in_memory(key, entry)
        return entry

    def _load_file(self, key: str) -> KVLayers | None:
        """The entry of a file; one that is damaged is deleted, and counts as none.

        One that cannot be read at present counts as none, too, and stays.
        """
        if self.files is None:
            return None
        try:
            return self.files.load(key)
        except (OSError, CodecMissing):
            self._count("unread")
            return None
        except BadModelFile:
            self.files.drop(key)
            self._count("dropped")
            return None

    def _store_in_memory(self, key: str, entry: KVLayers) -> None:
        with self._lock:
            self._put(key, entry)

    def _put(self, key: str, entry: KVLayers) -> None:
        before = self._entries.peek(key)
        evicted = self._entries.put(key, sum(map(layer_bytes, entry)), entry)
        self._counts["evicted"] += len(evicted)
        gone = evicted if before is None else [before, *evicted]
        self._device_bytes -= sum(map(_device_bytes, gone))
        if key in self._entries:
            self._device_bytes += _device_bytes(entry)

    def _count(self, name: str) -> None:
        with self._lock:
            self._counts[name] += 1


def _device_bytes(entry: KVLayers) -> int:
    """Bytes of an entry in a device's memory, 0 where it is the host's."""
    return 0 if entry_device(entry).type == "cpu" else sum(map(layer_bytes, entry))


class CachedReader:
    """Reads like its proxy, but where a passage is cached, only the question runs.

    Results equal those of `Proxy.read` within the rounding of the dtype, and of the storage where
    that is not exact: the first reading of a passage caches it by the same pass, and is exact.
    Several readers and threads may share a cache; passages of different models have different keys.

    Raises:
        BadInput: the cache has a folder, and the proxy has no revision, which file names need.
        ProbeMismatch: the cache has a codec of another model.
    """

    def __init__(self, proxy: Proxy, cache: PassageCache) -> None:
        self.proxy, self.cache, self.layout = proxy, cache, proxy.layout
        if cache.files and proxy.card.revision == UNVERSIONED:
            raise BadInput(
                f"{proxy.card.name} has no revision, so passages on disk could be taken for those "
                "of another model; give Proxy.from_model(..., revision=...), or a cache without a "
                "folder"
            )
        self.can_pause = proxy.can_pause
        self._twins = LruCache[CachedReader](MAX_TWINS)
        self._identify()

    def _identify(self) -> None:
        """Notes what the proxy is: its card, its codec, and what keys begin with."""
        proxy, storage = self.proxy, self.cache.storage
        self.card = proxy.card
        self._metadata = {"model": proxy.card.name, "revision": proxy.card.revision}
        self.codec = self.cache.codec_for(proxy)
        self._coded = fingerprint(proxy, storage, self.codec)
        self._uncoded = fingerprint(proxy, storage)

    @property
    def device(self) -> torch.device:
        """The device of the proxy."""
        return self.proxy.device

    def with_template(self, template: Template) -> CachedReader:
        """The same model and cache with another template; the latest few are kept."""
        if template == self.layout.template:
            return self
        proxy = self.proxy.with_template(template)
        return self._twins.get(proxy, lambda: CachedReader(proxy, self.cache), lambda _: 1)

    def key(self, prompt: Prompt, want: Want | None = None) -> str:
        """The cache key of a prompt's passage: 64 hex digits over model, template and tokens.

        Args:
            want: of the reading. One that is deeper than the codec is kept without it, under a key
                of its own, so that it does not take the place of the coded entry.
        """
        if self.proxy.card is not self.card:  # adapters were merged into it meanwhile
            self._identify()
        digest = (self._coded if self._codes(want) else self._uncoded).copy()
        digest.update(array("q", prompt.passage.ids).tobytes())
        return str(digest.hexdigest())

    def _codes(self, want: Want | None) -> bool:
        if self.codec is None:
            return False
        return want is None or self.codec.covers(0, want.depth, want.pause)

    def read(self, prompts: Sequence[Prompt], want: Want) -> Iterator[Signal]:
        """Like `Proxy.read`; `Signal.cached_tokens` is the number of tokens that did not run.

        Raises:
            BadInput: as `Proxy.read`.
        """
        batch = _CacheBatch(self.proxy.batch_tokens)
        for prompt in prompts:
            key = self.key(prompt, want)
            if key in batch.uncached:  # the same passage again: read the first, then use the cache
                yield from self._run(batch, want)
                batch = _CacheBatch(self.proxy.batch_tokens)
            prompt, entry = self._find(key, prompt, want)
            if batch.is_full(prompt, entry):
                yield from self._run(batch, want)
                batch = _CacheBatch(self.proxy.batch_tokens)
            batch.add(prompt, key, entry)
        yield from self._run(batch, want)

    def _find(self, key: str, prompt: Prompt, want: Want) -> tuple[Prompt, KVLayers | None]:
        """The prompt as it has to be read, and the cached layers of its passage."""
        paused = prompt.paused
        if paused is None:
            return prompt, self.cache.get(key, want.depth, want.pause)
        if (kept := paused.passage_kv) is None:
            return prompt, None
        if len(kept) < want.depth:
            rest = self.cache.get_rest(key, len(kept), want.depth, want.pause)
            kept = None if rest is None else [*kept, *rest]
        # without the deeper layers, passage and question run again from the first
        return (prompt if kept else replace(prompt, paused=None)), kept

    def _run(self, batch: _CacheBatch, want: Want) -> Iterator[Signal]:
        """Reads uncached and cached passages, and yields the signals in the order of prompts."""
        uncached = [batch.prompts[i] for i in batch.uncached.values()]
        codec, device = self.codec if self._codes(want) else None, self.proxy.device
        together = None
        if batched.is_used(device):
            storage = self.cache.storage
            together = partial(store_batch, storage=storage, may_go_on=want.pause, codec=codec)
        readings = self.proxy.read_with_kv(uncached, want, together)
        signals: dict[int, Signal] = {}
        stored: list[tuple[str, KVLayers, dict[str, str]]] = []
        for (key, i), (signal, layers) in zip(batch.uncached.items(), readings, strict=True):
            signals[i], prompt = signal, batch.prompts[i]
            if prompt.passage.ids:
                metadata = self._metadata | {"tokens": str(len(prompt.passage.ids))}
                name = rest_key(key, prompt.first_layer) if prompt.paused else key
                first = prompt.first_layer if prompt.paused else 0
                if together is not None:
                    stored.append((name, layers, metadata))
                else:
                    self.cache.put(name, layers, metadata, want.pause, codec, first)
        self.cache.put_batch(stored, codec)
        cached = [batch.prompts[i] for i in batch.cached]
        entries = list(batch.cached.values())
        if together is not None:
            keys = [self.key(prompt, want) for prompt in cached]
            entries = self.cache.move_to_device(keys, entries, device)
        cached_signals = self.proxy.read_cached(cached, entries, want)
        signals |= zip(batch.cached, cached_signals, strict=True)
        yield from (signals.pop(i) for i in range(len(batch.prompts)))


@dataclass(slots=True)
class _CacheBatch:
    """Consecutive prompts: at most one batch with cached passages and one with uncached ones.

    Attributes:
        uncached: for each cache key, the index of its prompt.
        cached: for each index of a prompt, the cache entry.
        tokens: tokens to run of prompts with cached passages (True) and with uncached ones (False).
    """

    batch_tokens: int
    prompts: list[Prompt] = field(default_factory=list)
    uncached: dict[str, int] = field(default_factory=dict)
    cached: dict[int, KVLayers] = field(default_factory=dict)
    tokens: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})

    def is_full(self, prompt: Prompt, entry: KVLayers | None) -> bool:
        """Whether the prompt would exceed its batch; an empty batch accepts any prompt."""
        tokens = self.tokens[entry is not None]
        return bool(tokens) and tokens + _tokens_to_run(prompt, entry) > self.batch_tokens

    def add(self, prompt: Prompt, key: str, entry: KVLayers | None) -> None:
        """Adds a prompt to the batch of its kind."""
        if entry is None:
            self.uncached[key] = len(self.prompts)
        else:
            self.cached[len(self.prompts)] = entry
        self.tokens[entry is not None] += _tokens_to_run(prompt, entry)
        self.prompts.append(prompt)


def _tokens_to_run(prompt: Prompt, entry: KVLayers | None) -> int:
    return len(prompt) if entry is None else len(prompt.question.ids)
