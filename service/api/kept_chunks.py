"""Chunks of an index kept as the default method reads them: `tamis index build --keep-kv`.

chunk ─ units ─ windows ─► keys and values, thin ─► kv.bin            while an index is built
          └──── encoder ─► vectors of units ───────► kv.bin
question ─ search ─ chunks ─ the same windows, units ─► found by key     while it is asked

Nothing of this depends on a question. A window is found by a hash of everything that its keys and
values depend on (model, revision, arithmetic, template, storage, tokens), and the vectors of a
chunk's units by a hash of encoder and texts; if anything differs, they are not found, and the chunk
is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from tamis.compressors.features.bm25 import visible_texts_of_each
from tamis.compressors.reading.windows import WINDOW_TOKENS, split_windows
from tamis.compressors.registry import DEFAULT, DEFAULT_ENCODER, layers_needed, uses_encoder
from tamis.probes.attention.kv_layers import ExactKVLayers, KVLayers, move_kv
from tamis.probes.attention.recorder import KVLayer
from tamis.probes.errors import BadIndex, BadInput, BadModelFile, ProxyMissing
from tamis.probes.hub import zoo
from tamis.probes.kv_cache.cache import CachedReader, PassageCache
from tamis.probes.kv_cache.codec import shipped_codec
from tamis.probes.kv_cache.retrieved import EXACT, KeptCorpus, RetrievedReader, find_selector
from tamis.probes.kv_cache.serialization import (
    deserialize,
    deserialize_vectors,
    serialize,
    serialize_vectors,
    vectors_key,
)
from tamis.probes.kv_cache.storage import Storage, storage_identity, store_layers
from tamis.probes.model.encoder import Encoder
from tamis.probes.model.proxy import Proxy
from tamis.probes.model.query_states import question_states
from tamis.probes.prompt import Prompt, QuestionTokens
from tamis.probes.signal import Want
from tamis.retrieval.index.models import QuestionModels, WindowObserver, load_encoder
from tamis.retrieval.index.store import CorpusIndex
from tamis.retrieval.index.writer import load_questions
from tamis.retrieval.storage.kept_windows import KeptWindow, kept_windows
from tamis.retrieval.storage.manifest import IndexSettings
from tamis.retrieval.storage.segment import Segment
from tamis.service.api.languages import choose_proxy
from tamis.text.types import Passage
from tamis.text.units.segment import units_of

T = TypeVar("T")


class KeptPassages:
    """Finds what is kept in all segments of one state of an index, by cache key."""

    def __init__(self, segments: Sequence[Segment]) -> None:
        self.segments = segments
        found = (kept_windows(segment) for segment in segments)
        self._kept = [kept for kept in found if kept is not None]

    def __len__(self) -> int:
        """How many entries are kept, those of deleted documents included."""
        return sum(map(len, self._kept))

    def load(self, key: str) -> KVLayers | None:
        """An entry; None if there is none.

        Raises:
            BadIndex: its bytes are not those that were written.
        """
        return self._load(key, deserialize)

    def load_vectors(self, key: str) -> Tensor | None:
        """The vectors of a passage's units, `[U, D]`; None if there are none.

        Raises:
            BadIndex: as `load`.
        """
        return self._load(key, deserialize_vectors)

    def _load(self, key: str, read: Callable[[bytes, str], T]) -> T | None:
        for kept in self._kept:
            if (data := kept.find(key)) is not None:
                try:
                    return read(data, key)
                except BadModelFile as error:
                    raise BadIndex(
                        f"a kept passage of the index is damaged ({error}); look with "
                        "`tamis index verify`, and build the index again"
                    ) from error
        return None


STORAGE: Storage = "thin"
MEMORY_BYTES = 256 << 20
"""Kept chunks that were asked take at most so much memory, for all questions to one index."""

_caches: WeakKeyDictionary[QuestionModels, PassageCache] = WeakKeyDictionary()


class ChunkKeeper:
    """Reads chunks with one proxy, and keeps their windows.

    Args:
        layers: that readings use. language: of the chunks, which decides where units end.
        encoder: whose vectors of units are kept, too; None for none.
    """

    def __init__(
        self, proxy: Proxy, layers: int, language: str, encoder: Encoder | None = None
    ) -> None:
        self.proxy, self.layers, self.language, self.encoder = proxy, layers, language, encoder
        self._reader = CachedReader(proxy, PassageCache(1, storage=STORAGE))

    def keep_chunks(
        self, passages: Sequence[Passage], observe: WindowObserver | None = None
    ) -> Iterator[list[KeptWindow]]:
        """What is kept of each chunk under its title line, in order: windows, vectors of units."""
        units = units_of(passages, self.language)
        windows = split_windows(self.proxy.layout, passages, units, WINDOW_TOKENS)
        prompts = [Prompt(window.tokens, QuestionTokens((), 0)) for window in windows]
        vectors = self._keep_vectors(visible_texts_of_each(passages, units))
        kept: list[KeptWindow] = []
        at = 0
        for window, (layers, data) in zip(windows, self._keep(prompts), strict=True):
            while at < window.passage:
                yield [*kept, *next(vectors)]
                kept, at = [], at + 1
            if data is not None:
                kept.append(data)
            if observe is not None:
                observe(window.passage, window.tokens, layers)
        while at < len(passages):
            yield [*kept, *next(vectors)]
            kept, at = [], at + 1

    def _keep_vectors(self, texts_of: Sequence[Sequence[str]]) -> Iterator[list[KeptWindow]]:
        """The entry with the vectors of each passage's units; none without an encoder or units."""
        identity = self.encoder.identity if self.encoder else None
        if self.encoder is None or identity is None:
            yield from ([] for _ in texts_of)
            return
        vectors = self.encoder.encode([text for texts in texts_of for text in texts])
        parts = torch.split(vectors, [len(texts) for texts in texts_of])
        for texts, own in zip(texts_of, parts, strict=True):
            key = vectors_key(identity, texts)
            yield [(key, serialize_vectors(key, own, identity))] if texts else []

    def _keep(self, prompts: Sequence[Prompt]) -> Iterator[tuple[ExactKVLayers, KeptWindow | None]]:
        """Each prompt's keys and values, and the entry of its passage, None without tokens."""
        start = len(self.proxy.layout.opening)
        card = self.proxy.card
        about = {"model": card.name, "revision": card.revision, "storage": STORAGE}
        want = Want(tuple(range(self.layers)))
        for prompt, layers in zip(prompts, self.proxy.compute_kv(prompts, want), strict=True):
            if not prompt.passage.ids:
                yield layers, None
                continue
            own = [KVLayer(one.keys[:, start:], one.values[:, start:]) for one in layers]
            key = self._reader.key(prompt)
            codec = self._reader.codec
            stored = store_layers(own, STORAGE, codec=codec)
            yield layers, (key, serialize(key, stored, about, codec))


def reading_settings(language: str, root: Path | None = None) -> dict[str, Any]:
    """What an index that keeps chunks notes of how they are read.

    Raises:
        ProxyMissing: the model that reads this language is not on this machine.
    """
    model = str(choose_proxy("auto", DEFAULT, language, "", (), root).proxy)
    layers = layers_needed(DEFAULT, model)
    proxy = zoo.load_proxy(model, layers=1, root=root)
    return {
        "model": model,
        "revision": proxy.card.revision,
        "arithmetic": proxy.arithmetic,
        "template": proxy.layout.template.name,
        "layers": layers or proxy.card.layers,
        "storage": storage_identity(STORAGE, shipped_codec(proxy.card)),
        "encoder": _installed_encoder(model, root),
    }


def _installed_encoder(model: str, root: Path | None) -> str | None:
    """The identity of the encoder that readings of a model use; None where none is installed."""
    if not uses_encoder(DEFAULT, model):
        return None
    try:
        return load_encoder(DEFAULT_ENCODER, root).identity
    except ProxyMissing:
        return None


def load_keeper(settings: IndexSettings, root: Path | None = None) -> ChunkKeeper:
    """The keeper of an index that keeps chunks, in the arithmetic that it was built in.

    Raises:
        ProxyMissing: its model or encoder is not on this machine. BadIndex: it is another revision
            there, or this tamis keeps chunks otherwise.
    """
    kv = settings.kv or {}
    if (arithmetic := kv.get("arithmetic")) is None:
        raise BadIndex(
            "the index keeps chunks as an earlier tamis found them, without the arithmetic that "
            "they were read in, so none of them is found; build the index again with --overwrite"
        )
    dtype = str(arithmetic).removeprefix("torch.")
    proxy = zoo.load_proxy(kv["model"], layers=kv["layers"], dtype=dtype, root=root)
    if proxy.card.revision != kv["revision"]:
        raise BadIndex(
            f"the index keeps chunks as {kv['model']} at {kv['revision'][:12]} reads them, and "
            f"here it is at {proxy.card.revision[:12]}; build the index again with --overwrite"
        )
    storage = storage_identity(STORAGE, shipped_codec(proxy.card))
    if kv["storage"] != storage:
        raise BadIndex(
            f"the index keeps chunks as {kv['storage']} and this tamis as "
            f"{storage}; build the index again with --overwrite"
        )
    encoder = None
    if (identity := kv.get("encoder")) is not None:
        encoder = load_encoder(DEFAULT_ENCODER, root)
        if encoder.identity != identity:
            raise BadIndex(
                f"the index keeps vectors of {DEFAULT_ENCODER} at {identity} and here it is at "
                f"{encoder.identity}; build the index again with --overwrite"
            )
    return ChunkKeeper(proxy, kv["layers"], settings.language, encoder)


def keeps_for(index: CorpusIndex, proxy: Any) -> bool:
    """Whether an index keeps its chunks as this proxy reads them.

    Args:
        proxy: a name, a folder, or a loaded one. Of a folder it is not known, so that it may.
    """
    kept = index.manifest.settings.kv
    if kept is None or "arithmetic" not in kept:  # as an earlier tamis kept them: not found
        return False
    if isinstance(proxy, str | Path):
        return str(proxy) == kept["model"] or str(proxy) not in zoo.ZOO
    is_same = proxy.card.name == kept["model"] or proxy.card.name not in zoo.ZOO
    return is_same and proxy.arithmetic == kept["arithmetic"]


def cache_of(index: CorpusIndex, proxy: Any) -> PassageCache | None:
    """The cache over what an index keeps, one for all its states; None unless it `keeps_for`."""
    if not keeps_for(index, proxy):
        return None
    cache = _caches.setdefault(index.models, PassageCache(MEMORY_BYTES, storage=STORAGE))
    # entries are found by their content, so a question to an older state may use a newer one's
    if not (isinstance(cache.source, KeptPassages) and cache.source.segments is index.segments):
        cache.source = KeptPassages(index.segments)
    return cache


def check_keeps(index: CorpusIndex, proxy: Any) -> None:
    """Refuses an index that does not keep its chunks as this proxy reads them.

    Raises:
        BadInput: with how to build one that does.
    """
    if keeps_for(index, proxy):
        return
    kept = index.manifest.settings.kv
    others = f" (but as {kept['model']} in {kept.get('arithmetic')})" if kept else ""
    who = (
        str(proxy) if isinstance(proxy, str | Path) else f"{proxy.card.name} in {proxy.arithmetic}"
    )
    raise BadInput(
        f"{index.folder} keeps no keys and values as {who} reads them{others}; build it with "
        "`tamis index build --keep-kv`, or leave out read"
    )


def retrieved_reader(
    index: CorpusIndex,
    proxy: Proxy,
    layers: int,
    passages: Sequence[Passage],
    keys: int | None = None,
    selector: str = EXACT,
) -> RetrievedReader:
    """A reader whose questions attend to the kept keys and values of some chunks, unread.

    Args:
        layers: that readings use. passages: the chunks, as the index has them.
        keys: the most keys that a query attends to; None for all. selector: what finds them.

    Raises:
        BadInput: the index keeps no chunk as this proxy reads it, or not all of these.
        UnknownMethod: no such selector.
    """
    build = find_selector(selector)
    check_keeps(index, proxy)
    cache = cache_of(index, proxy)
    assert cache is not None
    reader, found = CachedReader(proxy, cache), dict[str, KVLayers]()

    def find(prompt: Prompt) -> KVLayers:
        if (key := reader.key(prompt)) in found:
            return found[key]
        entry = cache.get(key, layers)
        if entry is None:
            raise BadInput(
                f"{index.folder} keeps no keys and values of a chunk of {len(prompt.passage.ids)} "
                "tokens as it is read here; build it again with --keep-kv, or leave out read"
            )
        if proxy.device.type != "cpu":
            (entry,) = move_kv([entry], proxy.device)
        return found.setdefault(key, entry)

    units = units_of(passages, index.manifest.settings.language)
    windows = split_windows(proxy.layout, passages, units, WINDOW_TOKENS)
    prompts = [Prompt(one.tokens, QuestionTokens((), 0)) for one in windows if one.tokens.ids]
    kept = list(map(find, prompts))
    # while a question runs, the proxy runs nothing else
    queries = [] if keys is None or selector == EXACT else selector_queries(proxy, layers)
    corpus = KeptCorpus(kept, keys, build, queries.__getitem__)
    return RetrievedReader(proxy, corpus, find)


def selector_queries(proxy: Proxy, layers: int) -> list[Tensor]:
    """Query states of general questions, `[Hkv, T, d]` of each layer: what selectors train with."""
    asked = [proxy.layout.question_tokens(text) for text in load_questions()]
    states = list(question_states(proxy, asked, range(layers), WINDOW_TOKENS))
    shape = int(proxy.config.num_key_value_heads), -1, states[0].shape[-1]
    return [torch.cat([own[at].reshape(shape) for own in states], 1) for at in range(layers)]
