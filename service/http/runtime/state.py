"""A running service: everything its routes need, and how it is started and stopped."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch

from tamis.compressors.reading.windows import Reader
from tamis.probes.hub import zoo
from tamis.probes.prompt import PassageTokens, Prompt
from tamis.probes.signal import Want
from tamis.retrieval.index.store import CorpusIndex
from tamis.service.api.index import IndexPool
from tamis.service.api.languages import ProxyChoice, choose_proxy
from tamis.service.engine.engine import Engine, EngineBounds, PromptCache
from tamis.service.engine.errors import NotFound
from tamis.service.engine.request import QueuedRequest
from tamis.service.http.runtime.executor import RequestExecutor, estimate_tokens
from tamis.service.http.runtime.methods import ServedMethods, parse_named_paths, proxy_layers
from tamis.service.http.runtime.originals import OriginalStore
from tamis.service.http.runtime.result_cache import ResultCache
from tamis.service.http.runtime.settings import Settings
from tamis.service.http.runtime.telemetry import Metrics

if TYPE_CHECKING:
    from tamis.probes.kv_cache.cache import PassageCache


class RunningRequests:
    """Requests that are being served, by the owner of their API key and their request id."""

    def __init__(self) -> None:
        self._by_id: dict[tuple[str, str], QueuedRequest] = {}

    @contextmanager
    def follow(self, owner: str, request_id: str, request: QueuedRequest) -> Iterator[None]:
        """Makes a request known while the block runs; of two with the same id, the later one."""
        key = owner, request_id
        self._by_id[key] = request
        try:
            yield
        finally:
            if self._by_id.get(key) is request:
                del self._by_id[key]

    def find(self, owner: str, request_id: str) -> QueuedRequest | None:
        """The request; None where none of this id is being served."""
        return self._by_id.get((owner, request_id))


_WARMUP_TOKENS = 256
_SAMPLE = "The quick brown fox jumps over the lazy dog. " * 40
_SWITCH_INTERVAL_S = 0.0005
"""Seconds after which a thread gives up the interpreter lock. The model's thread waits for the lock
after every operation of a forward pass, so Python's default of 5 ms would add up to seconds."""


@dataclass(slots=True)
class ServiceState:
    """Everything of one running service."""

    settings: Settings
    metrics: Metrics
    engine: Engine
    methods: ServedMethods
    executor: RequestExecutor
    layers: int | None
    indexes: dict[str, Any]
    originals: OriginalStore
    results: ResultCache
    running: RunningRequests = field(default_factory=RunningRequests)

    @classmethod
    def start(
        cls, settings: Settings, metrics: Metrics, reader: Reader | Future[Reader] | None = None
    ) -> ServiceState:
        """Loads the model and opens the indexes.

        Args:
            reader: used instead of the settings' proxy; or that, from `begin_loading`.

        Raises:
            TamisError: the service cannot start; the message names the remedy.
        """
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        reader = begin_loading(settings) if reader is None else reader
        layers = proxy_layers(settings) if isinstance(reader, Future) else None
        passages = PromptCache(_passage_cache(settings))
        warmup_speeds: list[tuple[int, float]] = []
        load = _model_loader(settings, reader, passages, warmup_speeds)
        engine = Engine(load, _engine_bounds(settings, reader), metrics, passages.tokens_to_read)
        methods = ServedMethods(settings, engine.start())
        estimate = estimate_tokens("", [_SAMPLE]) - estimate_tokens("", [""])
        engine.queue.expect_size(len(methods.reader.layout.tokenizer.encode(_SAMPLE)) / estimate)
        if warmup_speeds:
            engine.queue.record_speed(*warmup_speeds[-1])
        metrics.add_gauge("queue_tokens", lambda: engine.queue_load().tokens)
        metrics.add_gauge("queue_requests", lambda: engine.queue_load().requests)
        metrics.add_gauge("ready", lambda: float(engine.ready))
        if (cache := passages.cache) is not None:
            metrics.add_store("cache", lambda: cache.stats(with_files=False))
        indexes = {
            name: IndexPool(CorpusIndex.open(folder, root=methods.root, device=settings.device))
            for name, folder in parse_named_paths(settings.indexes, "indexes")
        }
        originals = OriginalStore(settings.retrieve_bytes, settings.retrieve_s)
        metrics.add_store("originals", originals.stats)
        results = ResultCache(settings.result_cache_mb * 10**6, _versions(methods))
        if results.max_bytes:
            metrics.add_store("results", results.stats)
        return cls(
            settings,
            metrics,
            engine,
            methods,
            RequestExecutor(engine, settings.timeout_s),
            layers,
            indexes,
            originals,
            results,
        )

    def close(self) -> bool:
        """Finishes the admitted requests; whether that was done in time."""
        served = self.engine.drain(self.settings.drain_timeout_s)
        self.executor.close()
        return served

    def find_index(self, name: str | None) -> tuple[str, Any]:
        """An index and its name; the only one if no name is given.

        Raises:
            NotFound: no index has that name, or none is named and there are several.
        """
        if not self.indexes:
            raise NotFound(
                "no index is open here; start the service with --indexes name=folder, "
                "where `tamis index` made the folder"
            )
        chosen = next(iter(self.indexes)) if name is None and len(self.indexes) == 1 else name
        if chosen not in self.indexes:
            raise NotFound(f"there is no index {name!r:.80}; there are: {', '.join(self.indexes)}")
        return str(chosen), self.indexes[chosen]


def _versions(methods: ServedMethods) -> tuple[str, ...]:
    """What an answer depends on beside its request and the settings of this process."""
    card = methods.reader.card
    return (version("tamis"), card.name, card.revision)


def _model_loader(
    settings: Settings,
    reader: Reader | Future[Reader],
    passages: PromptCache,
    warmup_speeds: list[tuple[int, float]],
) -> Callable[[], Reader]:
    """A function that waits for the model, takes its time and wraps it with the cache.

    Args:
        warmup_speeds: gets the tokens and seconds of a warm-up.
    """

    def load() -> Reader:
        found = reader.result() if isinstance(reader, Future) else reader
        if settings.warmup:
            began = time.monotonic()
            warmup_speeds.append((_warm_up(found), time.monotonic() - began))
        return passages.wrap(found)

    return load


def begin_loading(settings: Settings) -> Future[Reader]:
    """Loads the settings' proxy in a thread: `tamis serve` imports the app meanwhile."""

    def load() -> Reader:
        served = replace(settings, proxy=proxy_choice(settings).proxy)
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        proxy = zoo.load_proxy(
            served.proxy,
            layers=proxy_layers(served),
            dtype=settings.dtype,
            device=settings.device,
            root=settings.models,
        )
        if settings.warmup:
            _warm_up(proxy, _WARMUP_TOKENS // 4)
        return proxy

    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    pool = ThreadPoolExecutor(1, "loading")
    loading = pool.submit(load)
    pool.shutdown(wait=False)
    return loading


def proxy_choice(settings: Settings) -> ProxyChoice:
    """The proxy that a service reads with: the one named, or chosen by language."""
    given = settings.proxy, settings.method, settings.language
    return choose_proxy(*given, "", (), settings.models, quality=settings.quality)


def _warm_up(reader: Reader, tokens: int = _WARMUP_TOKENS) -> int:
    """Reads one window, so that the first request does not pay for one-time initialisation; the
    number of its tokens."""
    ids = reader.layout.tokenizer.encode(_SAMPLE).ids
    read = PassageTokens(tuple(ids[:tokens]), 0, ((0, tokens),))
    depth = getattr(reader, "depth", reader.card.layers)
    prompt = Prompt(read, reader.layout.question_tokens("What jumps?"))
    for _ in reader.read([prompt], Want((depth - 1,))):
        pass
    return len(prompt)


def _engine_bounds(settings: Settings, reader: Reader | Future[Reader]) -> EngineBounds:
    batch = settings.batch_tokens or getattr(reader, "batch_tokens", None)
    if not batch:
        from tamis.probes.model.loading import choose_device

        # on a CPU half of `Proxy`'s default: a short request waits for the current batch
        batch = 1024 if choose_device(settings.device).type == "cpu" else 16384
    return EngineBounds(
        settings.queue_tokens,
        settings.max_requests,
        settings.max_request_tokens,
        batch,
        settings.stall_s,
    )


def _passage_cache(settings: Settings) -> PassageCache | None:
    """The passage cache of the settings; None without `cache_bytes`."""
    if not settings.cache_bytes:
        return None
    from tamis.probes.kv_cache.cache import PassageCache

    return PassageCache(settings.cache_bytes, settings.cache_folder, settings.cache_storage)
