"""A method whose models are loaded when it is first used: a context that fits needs none."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tamis.compressors.method import (
    Method,
    MethodInfo,
    MethodKind,
    Orderer,
    OrdererFactory,
    check_scores,
    reading_everything,
)
from tamis.compressors.registry import (
    DEFAULT_ENCODER,
    InstalledModels,
    check_options,
    install_hint,
    method_class,
    method_info,
    method_name,
    method_names,
)
from tamis.compressors.types import Ranks, Scores, check_result_type
from tamis.probes.errors import BadInput
from tamis.service.api.model_pool import shared_proxy
from tamis.text.types import Passage, Unit

if TYPE_CHECKING:
    from tamis.probes.kv_cache.cache import PassageCache


class PooledModels(InstalledModels):
    """Models of this process: a proxy is shared by all who read with it, with a cache over it."""

    def __init__(
        self, proxy: Any, encoder: Any, root: Path | None, cache: PassageCache | None
    ) -> None:
        super().__init__(proxy, encoder, root)
        self.cache = self.vector_source = cache

    def reader(self, layers: int | None) -> Any:
        """A proxy of at least so many layers; passages in the cache are not read again."""
        from tamis.compressors.reading.windows import with_cache

        return with_cache(shared_proxy(self.proxy, layers, self.root), self.cache)


class LazyMethod:
    """A method, checked at once and loaded at its first use; threads may share it.

    It is a `Scorer`, a `Ranker` and an `Orderer`, as far as the method behind it is one.
    """

    def __init__(
        self,
        name: str | Method | type[Method],
        proxy: Any,
        root: Path | None = None,
        *,
        use: MethodKind = "compression",
        cache: PassageCache | None = None,
        encoder: Any = DEFAULT_ENCODER,
        **options: Any,
    ) -> None:
        """Looks the method up and checks its options; loads nothing.

        Args:
            name: of a method; or a class of one, which is built as a named one is; or an instance,
                which is used as it is.
            use: what it is wanted for.
            cache: passages in it are not read again.
            encoder: a loaded sentence encoder, or the name of one.
            options: the method's own.

        Raises:
            UnknownMethod: no such method. BadInput: an option that the method does not have, or a
                method that cannot do what it is wanted for.
        """
        self.info: MethodInfo = method_info(name)
        self.name = method_name(name)
        _check_use(self.name, self.info, use)
        if options:
            check_options(name, options)
        self.proxy, self.root, self.options = proxy, root, options
        self._models = PooledModels(proxy, encoder, root, cache)
        self._given = name
        self._method: Any = name if isinstance(name, Method) else None
        self._loading = threading.Lock()

    def scores(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Scores:
        """The method's scores; the timings also say how long it took to load."""
        method, load_ms = self._timed_load()
        scores = check_result_type(method.scores(question, passages, units), Scores, self.name)
        return replace(scores, timings_ms={"load": load_ms, **scores.timings_ms})

    def rank(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Ranks:
        """The method's ranking; the timings also say how long it took to load."""
        method, load_ms = self._timed_load()
        ranks = check_result_type(method.rank(question, passages, units), Ranks, self.name)
        return replace(ranks, timings_ms={"load": load_ms, **ranks.timings_ms})

    def order(
        self, question: str, passages: Sequence[Passage], scores: Sequence[float]
    ) -> tuple[int, ...]:
        """The method's order of the passages."""
        order: tuple[int, ...] = self.load().order(question, passages, scores)
        return order

    def coverage_threshold(self, coverage: float, cautious: bool = False) -> float | None:
        """The method's threshold for a coverage; None where it promises none."""
        threshold: float | None = self.load().coverage_threshold(coverage, cautious)
        return threshold

    def reading_everything(self) -> Any:
        """The method itself, leaving nothing out."""
        return reading_everything(self.load())

    def load(self) -> Any:
        """The method itself, built at the first call.

        Raises:
            ProxyMissing: a model is not on this machine. BadModelFile: its files are not whole.
        """
        with self._loading:
            if self._method is None:
                self._method = method_class(self._given).build(self._models, self.options)
            return self._method

    def _timed_load(self) -> tuple[Any, float]:
        clock = time.perf_counter()
        return self.load(), (time.perf_counter() - clock) * 1e3


def _check_use(name: str, info: MethodInfo, use: MethodKind) -> None:
    if use == "compression":
        check_scores(info, name)
    elif use == "reranking" and info.kind == "ordering":
        raise BadInput(
            f"{name} puts passages in an order to be shown in and ranks none; choose one that "
            "`tamis methods` lists under reranking or compression"
        )


def ordering_methods(proxy: Any, root: Path | None = None) -> OrdererFactory:
    """Ordering methods over one proxy, by name, each built once."""
    made: dict[str, Orderer] = {}

    def by_name(name: str) -> Orderer:
        if name not in made:
            if name not in method_names("ordering"):
                orders = ", ".join(sorted({*method_names("ordering"), "score"}))
                raise BadInput(f"order is {name!r}; give {orders}{install_hint(name)}")
            made[name] = LazyMethod(name, proxy, root, use="ordering")
        return made[name]

    return by_name
