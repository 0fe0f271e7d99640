"""`tamis.rerank`: documents sorted by how well they answer, in one call."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tamis.compressors.features.rank_fusion import FirstStage, FusionMode
from tamis.compressors.method import Method
from tamis.compressors.pipeline.reranking import Reranker
from tamis.compressors.registry import DEFAULT, DEFAULT_PROXY, method_name
from tamis.compressors.types import Reranked
from tamis.probes.interruption import end_with_task
from tamis.service.api.arguments import check_keywords, read_documents
from tamis.service.api.compress import check_parts
from tamis.service.api.languages import STANDARD, choose_proxy, probe_option
from tamis.service.api.lazy_method import LazyMethod
from tamis.service.api.model_pool import Built
from tamis.service.api.spans import ranking_attributes, traced
from tamis.text.language import AUTO
from tamis.text.types import Passage

if TYPE_CHECKING:
    from tamis.probes.kv_cache.cache import PassageCache

_built = Built[Reranker]("rerankers")


@traced("rerank", ranking_attributes)
def rerank(
    question: str,
    documents: Sequence[Passage | str | Mapping[str, Any]],
    *,
    top_n: int | None = None,
    method: str | Method | type[Method] = DEFAULT,
    first_stage: FirstStage | None = None,
    fuse: FusionMode | None = None,
    min_score: float | None = None,
    read_metadata: Sequence[str] = (),
    proxy: Any = AUTO,
    quality: str = STANDARD,
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
        documents: texts, mappings with `text` and maybe `id`, `title`, `metadata` and `format`,
            `Passage`s, or documents of LangChain; of any number and length.
        top_n: how many results to return; None for all.
        method: a method of reranking or of compression, by its name in `tamis methods`, or one of
            your own: its class or an instance.
        first_stage: what found the documents thought of each: a score per document, higher is
            better, or `"order"` where they come best first.
        fuse: `"rrf"`, `"fitted"`, or the weight of the method's own scores from 0 to 1; None is
            `"fitted"`. Each result also has the score of either side alone.
        min_score: leave out documents whose own probability of holding an answer is lower, from 0
            to 1; for methods that give probabilities.
        read_metadata: fields of the documents' metadata to read with them, such as `date`.
        proxy: a zoo name, a folder, a hub id, or a loaded `Proxy`; `auto` is the one that was
            measured best in the language, of those on this machine.
        quality: as for `tamis.compress`.
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
    check_keywords(options, method, rerank)
    documents = read_documents(documents)
    probe = probe_option(options)
    name = method_name(method)
    choice = choose_proxy(proxy, name, language, question, documents, root, probe, quality)
    result = reranker(method, choice.proxy, root=root, cache=cache, **options).rerank(
        question,
        documents,
        top_n=top_n,
        first_stage=first_stage,
        fuse=fuse,
        min_score=min_score,
        read_metadata=read_metadata,
        language=choice.language,
    )
    return choice.add_warning(result)


@end_with_task
async def arerank(question: str, documents: Sequence[Any], **arguments: Any) -> Reranked:
    """`rerank` in a worker thread: the event loop stays free."""
    return await asyncio.to_thread(rerank, question, documents, **arguments)


def reranker(
    method: str | Method | type[Method] = DEFAULT,
    proxy: Any = DEFAULT_PROXY,
    *,
    root: Path | None = None,
    cache: PassageCache | None = None,
    **options: Any,
) -> Reranker:
    """A reranker for these choices, built once and shared; its model is loaded when first asked.

    One of a method's instance is not kept: whoever made the method keeps it.

    Raises:
        UnknownMethod: no such method. BadInput: an option that the method does not have, or a
            method that orders passages and ranks none.
    """

    def build() -> Reranker:
        lazy = LazyMethod(method, proxy, root, use="reranking", cache=cache, **options)
        return Reranker(lazy, method_name(method))

    return _built.get_or_build(build, method, proxy, root, cache, options)
