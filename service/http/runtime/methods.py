"""The methods of a running service, built once over the engine, and its tokenizers."""

from __future__ import annotations

import difflib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from tamis.compressors import registry
from tamis.compressors.method import Scorer
from tamis.compressors.options import option_names, options_of
from tamis.compressors.pipeline.compression import Compressor
from tamis.compressors.reading.windows import Reader
from tamis.probes.errors import BadInput, ProxyMissing, UnknownMethod, UnknownTokenizer
from tamis.probes.hub import zoo
from tamis.probes.lru import LruCache
from tamis.probes.named_tokenizers import NAMES, available_names, named_tokenizer, tokenizer_of_file
from tamis.probes.prompt import token_batches
from tamis.probes.tokens import ESTIMATE, TextTokenizer, estimating_tokenizer
from tamis.service.api.lazy_method import ordering_methods
from tamis.service.api.rank_tools import ToolRanker
from tamis.service.engine.errors import OutOfTime
from tamis.service.engine.request import UnderDeadline, current_request
from tamis.service.http.runtime.settings import Settings, flag

_MAX_BUILT = 64
"""Methods with their options that are kept."""
_SLICE_CHARS = 16384
"""About one batch of the encoder; between slices others have their turn."""


class SingleThreadEncoder:
    """A sentence encoder that runs in one thread; requests take turns, a slice of texts at a time.

    It serves the current request of the calling thread, and stops where that has ended.
    """

    def __init__(self, encoder: Any) -> None:
        self._encoder = encoder
        self._owner = ThreadPoolExecutor(1, "tamis-encoder")

    @property
    def name(self) -> str:
        """As of `Encoder`."""
        return str(self._encoder.name)

    def encode(self, texts: Sequence[str]) -> Tensor:
        """As `Encoder.encode`: `[N, D]`.

        Raises:
            OutOfTime: the deadline of the current request passed. Refused: it was ended.
        """
        if sum(map(len, texts)) > _SLICE_CHARS:
            return torch.stack(self._in_slices(texts, self._encoder.encode))
        found: Tensor = self._run_slice(texts, self._encoder.encode)
        return found

    def question_states(self, question: str) -> Any:
        """As `Encoder.question_states`; raises as `encode`."""
        return self._run_slice([question], lambda part: self._encoder.question_states(part[0]))

    def document_states(self, texts: Sequence[str]) -> list[Any]:
        """As `Encoder.document_states`; raises as `encode`."""
        return self._in_slices(texts, self._encoder.document_states)

    def _in_slices(self, texts: Sequence[str], run: Callable[[Sequence[str]], Any]) -> list[Any]:
        """What `run` gives for each text, in their order."""

        def length(index: int) -> int:
            return len(texts[index])

        found: list[Any] = [None] * len(texts)
        for part in token_batches(sorted(range(len(texts)), key=length), _SLICE_CHARS, length):
            of_part = self._run_slice([texts[index] for index in part], run)
            for index, one in zip(part, of_part, strict=True):
                found[index] = one
        return found

    def _run_slice(self, texts: Sequence[str], run: Callable[[Sequence[str]], Any]) -> Any:
        request = current_request()
        if request is not None and request.fault is not None:
            raise request.fault
        future = self._owner.submit(run, texts)
        deadline = None if request is None else request.deadline
        try:
            return future.result(
                None if deadline is None else max(0.0, deadline - time.monotonic())
            )
        except TimeoutError:
            future.cancel()
            raise OutOfTime("the deadline came before everything was read") from None


def served_method_names(settings: Settings) -> list[str]:
    """The methods a service offers: those of its settings, or all that its models can serve.

    Raises:
        UnknownMethod: a method that does not exist. BadInput: the default is not among them, or a
            method cannot score documents in isolation although `isolated` is set.
    """
    available = [*registry.method_names("compression"), *registry.method_names("reranking")]
    registry.method_info(settings.method)  # raises for a name that nobody has
    servable = [name for name in available if name == settings.method or _can_serve(name, settings)]
    if settings.isolated:
        servable = [name for name in servable if name == settings.method or can_isolate(name)]
    chosen = list(settings.methods) or servable
    for name in chosen:
        if name not in available:
            registry.method_info(name)  # raises for a name that nobody has
            raise BadInput(f"{name} orders passages and is not served; leave it out of methods")
        if settings.isolated and not can_isolate(name):
            raise BadInput(f"{name} compares documents with one another; isolated leaves it out")
    if settings.method not in chosen:
        raise BadInput(
            f"the default method {settings.method!r} is not among those served: {chosen}"
        )
    return chosen


def can_isolate(method: str) -> bool:
    """Whether a method can score each document independently of the others."""
    return _has_option(method, "isolated")


def _has_option(method: str, option: str) -> bool:
    return option in option_names(registry.method_class(method))


def _can_serve(name: str, settings: Settings) -> bool:
    """Whether the method's probe, heads and encoder are installed."""
    if registry.method_info(name).needs == "encoder":
        try:
            zoo.locate(registry.DEFAULT_ENCODER, settings.models)
        except ProxyMissing:
            return False
    return registry.ships_for(name, settings.proxy)


def proxy_layers(settings: Settings) -> int | None:
    """How many layers of the proxy its methods read; None for all."""
    proxied = [n for n in served_method_names(settings) if registry.method_info(n).needs_proxy]
    depths = [registry.layers_needed(name, settings.proxy) for name in proxied]
    return None if None in depths else max((d for d in depths if d is not None), default=1)


class ServedMethods:
    """The methods and tokenizers of one service, by name.

    Args:
        reader: the engine's reader, which the methods read with.
    """

    def __init__(self, settings: Settings, reader: Reader) -> None:
        self.settings, self.reader = settings, reader
        self.names = served_method_names(settings)
        self.root = settings.models
        self.counters = {"proxy": reader.layout.tokenizer, ESTIMATE: estimating_tokenizer()} | {
            name: tokenizer_of_file(path, name)
            for name, path in parse_named_paths(settings.tokenizers, "tokenizers")
        }
        self.tokenizer_names = list(dict.fromkeys([*self.counters, *available_names()]))
        self.orderers = ordering_methods(reader, self.root)
        self._built = LruCache[Scorer](_MAX_BUILT, 1)
        self._encoder: SingleThreadEncoder | None = None
        self._rank_encoders: tuple[SingleThreadEncoder, ...] | None = None
        self._tool_ranker: ToolRanker | None = None
        self._building = threading.Lock()

    def known_model(self, model: str | None) -> str | None:
        """A method that is served here, else None: other clients name models of their own."""
        return model if model in self.names else None

    def resolve_method(self, model: str | None, method: str | None = None) -> str:
        """The method that a request names; `model` may be `default`, the proxy, or a method.

        Raises:
            UnknownMethod: either is unknown; with the nearest known name.
            BadInput: both name a method, and not the same.
        """
        if method is not None and model in registry.METHODS.names() and model != method:
            raise BadInput(f"model is {model!r} and method {method!r}: give one of them")
        proxies = ("default", self.reader.card.name, self.settings.proxy)
        if model and model not in proxies:
            self._check_served(model)
            method = model if method is None else method
        elif method is None:
            return self.settings.method
        self._check_served(method)
        return method

    def _check_served(self, method: str) -> None:
        """Refuses a name of no method that is served here.

        Raises:
            UnknownMethod: with the nearest known name.
        """
        if method in self.names:
            return
        if method in registry.METHODS.names():
            raise UnknownMethod(
                f"{method!r} is not served here; start the service with another --proxy, for which "
                "all that it has to know ships, such as qwen2.5-coder-0.5b (tamis models pull "
                "qwen2.5-coder-0.5b), or name it in --methods"
            )
        known = [*self.names, "default", self.reader.card.name]
        near = difflib.get_close_matches(method, known, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UnknownMethod(
            f"there is no model {method!r:.80} here; {hint}GET /v1/models lists them"
        )

    def counter(self, tokenizer: str) -> TextTokenizer:
        """The tokenizer that a budget is counted in.

        Raises:
            UnknownTokenizer: none of that name was set up, or its vocabulary is not here.
        """
        if tokenizer in self.counters:
            return self.counters[tokenizer]
        if tokenizer in NAMES:
            return named_tokenizer(tokenizer)
        raise UnknownTokenizer(
            f"there is no tokenizer {tokenizer!r:.80} here; there are: "
            f"{', '.join(self.tokenizer_names)}; "
            "the service is started with others by --tokenizers name=tokenizer.json"
        )

    def scorer(
        self, method: str, isolated: bool = False, given: Mapping[str, Any] = MappingProxyType({})
    ) -> Scorer:
        """A method, built when it is first used; the latest few are kept.

        Args:
            isolated: score each document independently of the others, where the method can.
            given: the method's own options in a request, which go before the service's.

        Raises:
            UnknownMethod: not a method that scores sentences.
            BadInput: an option that the method does not have or the service does not take, or that
                wants more layers than the service has loaded.
        """
        alone = isolated or self.settings.isolated
        options: dict[str, Any] = {"isolated": True} if alone and can_isolate(method) else {}
        if _has_option(method, "gate"):
            gate: str | bool = "auto" if self.settings.gate else False
            options |= {"gate": gate, "cascade": self.settings.cascade}
        if given:
            self._check_given(method, given, options)
            options |= given

        def build() -> Scorer:
            found: Scorer = registry.build_method(
                method,
                proxy=self.reader,
                encoder=self._shared_encoder(method),
                rank_encoders=self._shared_rank_encoders(method),
                root=self.root,
                **options,
            )
            return found

        with self._building:
            return self._built.get((method, repr(sorted(options.items()))), build, lambda _: 1)

    def _check_given(
        self, method: str, given: Mapping[str, Any], options: Mapping[str, Any]
    ) -> None:
        """Refuses options of a request that cannot be followed, or are not a request's to give.

        Raises:
            BadInput: as for `scorer`.
        """
        registry.check_options(method, given)
        for one in options_of(registry.method_class(method)):
            value = given.get(one.name, one.default)
            if one.names_something(value):
                raise BadInput(
                    f"{one.name} of {method} is {value!r:.80}, and a request names no files and "
                    "addresses; leave it out, or give it to tamis.compress or the command line"
                )
        if options.get("isolated") and not given.get("isolated", True):
            raise BadInput("the service scores each document alone; leave isolated out")
        if not registry.method_info(method).needs_proxy:
            return
        card = self.reader.card
        loaded = getattr(self.reader, "depth", card.layers)
        wanted = registry.layers_needed(method, card.name, **{**options, **given}) or card.layers
        if wanted > loaded:
            raise BadInput(
                f"{method} with {dict(given)} reads {wanted} layers of {card.name} and this "
                f"service has loaded {loaded}; leave out what asks for more, or start it with a "
                "method that reads as deep, such as --methods sentinel"
            )

    def compressor(
        self, method: str, tokenizer: str, given: Mapping[str, Any] = MappingProxyType({})
    ) -> Compressor:
        """A method as a compressor that stops at the deadline of a request.

        Args:
            given: as for `scorer`.

        Raises:
            UnknownMethod: not a method that scores sentences. BadInput: as for `scorer`.
            UnknownTokenizer: none of that name was set up, or its vocabulary is not here.
        """
        scorer = UnderDeadline(self.scorer(method, given=given))
        return Compressor(scorer, method, self.counter(tokenizer), self.orderers)

    def tool_ranker(self) -> ToolRanker:
        """What ranks definitions of tools, with the encoders that are installed."""
        with self._building:
            if self._tool_ranker is None:
                english = self._shared_encoder("embedding")
                others = self._shared_rank_encoders("embedding")
                self._tool_ranker = ToolRanker(
                    None if isinstance(english, str) else english,
                    next((one for one in others if one.name == registry.SMALL_RANK_ENCODER), None),
                )
            return self._tool_ranker

    def _shared_encoder(self, method: str) -> Any:
        """One encoder for all methods; its name where it is not installed, so that they raise."""
        if self._encoder is None and registry.method_info(method).needs_encoder:
            from tamis.probes.model.encoder import Encoder

            try:
                folder = zoo.locate(registry.DEFAULT_ENCODER, self.root)
                found = Encoder.from_folder(folder, self.settings.device)
            except ProxyMissing:
                return registry.DEFAULT_ENCODER
            self._encoder = SingleThreadEncoder(found)
        return self._encoder or registry.DEFAULT_ENCODER

    def _shared_rank_encoders(self, method: str) -> tuple[SingleThreadEncoder, ...]:
        """Those of many languages that are installed, each loaded when a ranking first needs it."""
        if not registry.method_info(method).needs_encoder:
            return ()
        if self._rank_encoders is None:
            found = registry.InstalledModels(self.reader, None, self.root).rank_encoders()
            self._rank_encoders = tuple(map(SingleThreadEncoder, found))
        return self._rank_encoders


def parse_named_paths(settings: Sequence[str], knob: str) -> list[tuple[str, Path]]:
    """Parses `name=path` items.

    Args:
        knob: the setting that has them, for errors.

    Raises:
        BadInput: an item has another form.
    """
    found = []
    for pair in settings:
        name, equals, path = pair.partition("=")
        if not (name and equals and path):
            file = "tokenizer.json" if knob == "tokenizers" else "folder"
            raise BadInput(f"{flag(knob)} has {pair!r:.80}; give name={file}")
        found.append((name, Path(path)))
    return found
