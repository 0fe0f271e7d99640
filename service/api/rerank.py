"""`tamis.rerank`: documents sorted by how well they answer, in one call."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tamis.compressors.features.rank_fusion import FirstStage, Fuse
from tamis.compressors.method import ranks_of
from tamis.compressors.pipeline.reranking import Reranker
from tamis.compressors.registry import DEFAULT, DEFAULT_PROXY, info, names
from tamis.compressors.types import Ranks, Reranked
from tamis.probes.errors import BadInput
from tamis.probes.segmentation.language import AUTO
from tamis.probes.text import Passage, Unit
from tamis.service.api.compress import Late, _key, check_parts
from tamis.service.api.languages import chosen, probe_among

if TYPE_CHECKING:
    from tamis.probes.kv_cache.cache import PassageCache

_built: dict[tuple[Any, ...], Reranker] = {}
_lock = threading.Lock()


class LateRanker(Late):
    """A ranking method whose model is loaded when it is first asked; threads may share it."""

    compresses: ClassVar[bool] = False

    def __init__(self, name: str, proxy: Any, root: Path | None = None, **given: Any) -> None:
        """As `Late`, for a method that ranks.

        Raises:
            UnknownMethod: no such method. BadInput: an option that the method does not have, or a
                method that orders passages and ranks none.
        """
        if info(name).kind == "ordering":
            raise BadInput(
                f"{name} puts passages in an order to be shown in and ranks none; "
                f"choose one of {', '.join(names('reranking') + names('compression'))}"
            )
        super().__init__(name, proxy, root, **given)

    def ranks(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Ranks:
        """As the method behind; the timings also say how long it took to load."""
        clock = time.perf_counter()
        method = self._loaded()
        load_ms = (time.perf_counter() - clock) * 1e3
        found = ranks_of(method, question, passages, units)
        return replace(found, timings_ms={"load": load_ms, **found.timings_ms})


def rerank(
    question: str,
    documents: Sequence[Passage | str | Mapping[str, Any]],
    *,
    top_n: int | None = None,
    method: str = DEFAULT,
    first_stage: FirstStage | None = None,
    fuse: Fuse | None = None,
    proxy: Any = AUTO,
    language: str = AUTO,
    root: Path | None = None,
    cache: PassageCache | None = None,
    **options: Any,
) -> Reranked:
    """Ranks documents by how well they answer the question, best first.

    Models are loaded at the first call and kept; calls from several threads are safe. Nothing is
    fetched: a missing proxy raises `ProxyMissing`.

    Args:
        question: what is asked.
        documents: texts, mappings with `text` and maybe `id`, `title`, `metadata`, or `Passage`s;
            as many and as long as they are.
        top_n: how many results to return; None for all.
        method: a method of reranking or of compression, see `tamis methods`.
        first_stage: what found the documents thought of each: a score a document, higher is better,
            or `"order"` where they come best first.
        fuse: `"rrf"`, `"fitted"`, or the weight of the method's own scores from 0 to 1; None is
            `"fitted"`. Each result also has the score of either side alone.
        proxy: a zoo name, a folder, a hub id, or a loaded `Proxy`; `auto` is the one that was
            measured best in the language, of those on this machine.
        language: of the documents, such as `de`; `auto` looks at them and at the question.
        root: the folder models are kept in; by default models/ in the folder that TAMIS_HOME names,
            or in the user's cache.
        cache: a `PassageCache`, so that a document is read once, whoever asks.
        options: the method's own.

    Raises:
        BadInput: and its kinds, for whatever cannot be served.
        ProxyMissing: the model is not on this machine.
    """
    check_parts(method, proxy, cache)
    probe = probe_among(options)
    choice = chosen(proxy, method, language, question, documents, root, probe)
    result = reranker(method, choice.proxy, root=root, cache=cache, **options).rerank(
        question,
        documents,
        top_n=top_n,
        first_stage=first_stage,
        fuse=fuse,
        language=choice.language,
    )
    return choice.noted(result)


async def arerank(question: str, documents: Sequence[Any], **arguments: Any) -> Reranked:
    """`rerank` in a worker thread: the event loop stays free."""
    return await asyncio.get_running_loop().run_in_executor(
        None, partial(rerank, question, documents, **arguments)
    )


def reranker(
    method: str = DEFAULT,
    proxy: Any = DEFAULT_PROXY,
    *,
    root: Path | None = None,
    cache: PassageCache | None = None,
    **options: Any,
) -> Reranker:
    """A reranker for these choices, built once and shared; its model is loaded when first asked.

    Raises:
        UnknownMethod: no such method. BadInput: an option that the method does not have, or a
            method that orders passages and ranks none.
    """
    chosen = tuple((name, _key(value)) for name, value in sorted(options.items()))
    key = (method, _key(proxy), _key(root), _key(cache), chosen)
    with _lock:
        if key not in _built:
            late = LateRanker(method, proxy, root, cache=cache, **options)
            _built[key] = Reranker(late.ranks, method)
        return _built[key]
