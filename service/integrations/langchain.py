"""tamis in LangChain: a compressor, a transformer, a cross-encoder and a retriever.

    compressor = TamisCompressor(max_tokens=500)
    retriever = TamisRetriever(retriever=store.as_retriever(), max_tokens=500)

All four work in this process, or through a tamis server with `base_url`. Only langchain-core is
needed.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tamis.probes.errors import BadInput, MissingExtra
from tamis.text.types import Passage

try:
    from langchain_core.callbacks import (
        AsyncCallbackManagerForRetrieverRun,
        CallbackManagerForRetrieverRun,
        Callbacks,
    )
    from langchain_core.documents import BaseDocumentCompressor, BaseDocumentTransformer, Document
    from langchain_core.load.serializable import Serializable
    from langchain_core.retrievers import BaseRetriever, RetrieverLike
    from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda

    if TYPE_CHECKING or find_spec("langchain_core.cross_encoders"):
        from langchain_core.cross_encoders import BaseCrossEncoder
    else:

        class BaseCrossEncoder(ABC):  # noqa: B024
            """langchain-core 1.0 has no such class; langchain-classic of that time has its own.

            There, `BaseCrossEncoder.register(TamisCrossEncoder)` makes its reranker accept ours.
            """

except ImportError as error:
    raise MissingExtra(f'{error.name} is not installed; pip install "tamis[langchain]"') from error

from pydantic import Field, PrivateAttr, model_validator

from tamis.service.integrations.backend import CompressedContext, RankingPlan, run_in_thread
from tamis.service.integrations.fields import (
    CONFIG,
    BackendFields,
    CompressionFields,
    check_kind,
    copy_metadata,
)

__all__ = ["TamisCompressor", "TamisCrossEncoder", "TamisDocumentTransformer", "TamisRetriever"]


class _DocumentCompression(CompressionFields):
    """Compression of LangChain documents."""

    def passages(self, documents: Sequence[Document]) -> list[Passage]:
        """The passages to read.

        Raises:
            BadInput: one is no document of LangChain.
        """
        check_kind(documents, Document, "langchain_core's Document(page_content=...)")
        return [self.passage(d.page_content, d.id, d.metadata) for d in documents]

    def compressed_documents(
        self, documents: Sequence[Document], context: CompressedContext
    ) -> list[Document]:
        """New documents with the kept text: same ids, metadata copied deeply and extended."""
        return [
            Document(
                page_content=part.text,
                id=(document := documents[part.passage]).id,
                metadata=copy_metadata(document.metadata, part, document.page_content)
                | self.added_metadata(part, context, len(document.page_content)),
            )
            for part in context.parts
        ]

    def keep(self, documents: Sequence[Document], query: str) -> list[Document]:
        """The documents reduced to what answers the query."""
        context = self.compress_passages(query, self.passages(documents))
        return self.compressed_documents(documents, context)

    async def akeep(self, documents: Sequence[Document], query: str) -> list[Document]:
        """`keep` without blocking the event loop."""
        context = await self.acompress_passages(query, self.passages(documents))
        return self.compressed_documents(documents, context)


class _PortableAdapter(Serializable):
    """Can be written by `langchain_core.load.dumps`; an API key only as the name of a secret.

    Read it back with `loads(text, allowed_objects=[TamisCompressor], valid_namespaces=["tamis"])`.
    """

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """True. A loaded proxy or cache is not written; `loads` refuses an object that had one."""
        return True

    @property
    def lc_secrets(self) -> dict[str, str]:
        """The environment variable in which a key is looked up when the object is read back."""
        return {"api_key": "TAMIS_API_KEY"}


class TamisCompressor(_DocumentCompression, _PortableAdapter, BaseDocumentCompressor):
    """Keeps the sentences of documents that answer a query, verbatim, within a budget.

    Returns one document for each that keeps something; joined by `separator`, they are within the
    budget: 500 tokens if none is given. The input documents are not changed. Ids stay; metadata is
    a deep copy with `evidence_score` and `compression` added: spans, tokens before and after,
    source length, answerability, verdict, reason, model, method, status, warnings.

    Where the model or the server fails, every document is returned whole with the status `failed`
    and a warning that says why, and the failure is logged; `on_error="fail"` raises instead.
    """

    model_config = CONFIG

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks = None
    ) -> list[Document]:
        """The documents, reduced to what answers the query.

        Raises:
            TamisError: and its subclasses, where the request or the set-up is wrong. Under
                `on_error="fail"` also every failure of the model or the server.
        """
        return self.keep(documents, query)

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks = None
    ) -> list[Document]:
        """`compress_documents` without blocking the event loop."""
        return await self.akeep(documents, query)

    def as_runnable(
        self, documents_key: str = "documents", query_key: str = "question"
    ) -> Runnable[dict[str, Any], list[Document]]:
        """A step of a chain that takes `{"documents": [...], "question": "..."}`."""

        def parts(given: dict[str, Any]) -> tuple[list[Document], str]:
            if missing := [key for key in (documents_key, query_key) if key not in given]:
                raise BadInput(
                    f"the step has no {' and no '.join(missing)}, and was given "
                    f"{', '.join(map(str, given)) or 'nothing':.200}; give documents and a "
                    "question under these names, or name the keys in as_runnable"
                )
            return given[documents_key], given[query_key]

        def run(given: dict[str, Any]) -> list[Document]:
            return self.keep(*parts(given))

        async def arun(given: dict[str, Any]) -> list[Document]:
            return await self.akeep(*parts(given))

        return RunnableLambda(run, afunc=arun, name="TamisCompressor")


class TamisDocumentTransformer(_DocumentCompression, _PortableAdapter, BaseDocumentTransformer):
    """`TamisCompressor` where the framework passes only documents.

    The query is the call's, `transform_documents(documents, query=...)`; else each document's own,
    `metadata[query_key]`; else the constructor's. Documents of one query share one budget.
    """

    model_config = CONFIG

    query: str | None = None
    query_key: str = "query"

    def transform_documents(self, documents: Sequence[Document], **kwargs: Any) -> list[Document]:
        """The documents, reduced to what answers their query.

        Raises:
            BadInput: a document without a query.
            TamisError: and its subclasses, where the request or the set-up is wrong. Under
                `on_error="fail"` also every failure of the model or the server.
        """
        groups = self._group_by_query(documents, **kwargs)
        return [d for query, group in groups.items() for d in self.keep(group, query)]

    async def atransform_documents(
        self, documents: Sequence[Document], **kwargs: Any
    ) -> list[Document]:
        """`transform_documents` without blocking the event loop."""
        groups = self._group_by_query(documents, **kwargs)
        return [d for query, group in groups.items() for d in await self.akeep(group, query)]

    def _group_by_query(
        self, documents: Sequence[Document], query: str | None = None, **_: Any
    ) -> dict[str, list[Document]]:
        """The documents of each query, in the order in which the queries first occur.

        Other keywords of the call are for other transformers of the same pipeline.
        """
        groups: dict[str, list[Document]] = {}
        for number, document in enumerate(documents):
            found = query or document.metadata.get(self.query_key) or self.query
            if not isinstance(found, str):
                raise BadInput(
                    f"document {number} of {len(documents)} has no query; give one to the "
                    f"constructor, to the call (query=...), or as metadata[{self.query_key!r}]"
                )
            groups.setdefault(found, []).append(document)
        return groups


class TamisCrossEncoder(BackendFields, BaseCrossEncoder):
    """Scores pairs of query and text by reading a small model's attention.

    Scores of one call and query are comparable; with a calibrated method they are probabilities.
    """

    model_config = CONFIG

    def score(self, text_pairs: list[tuple[str, str]]) -> list[float]:
        """One score for each pair, in the order of the pairs. Texts of one query are read together.

        Raises:
            TamisError: and its subclasses.
        """
        groups = _texts_by_query(text_pairs)
        found = {q: self.backend.rank(q, t, self._ranking_plan) for q, t in groups.items()}
        return _scores_in_order(text_pairs, found)

    async def ascore(self, text_pairs: list[tuple[str, str]]) -> list[float]:
        """`score` without blocking the event loop."""
        groups = _texts_by_query(text_pairs)
        found = {q: await self.backend.arank(q, t, self._ranking_plan) for q, t in groups.items()}
        return _scores_in_order(text_pairs, found)

    @property
    def _ranking_plan(self) -> RankingPlan:
        return RankingPlan(method=self.method, options=self.options, language=self.language)


_HITS = 10
"""Passages of an index that are looked at."""


class TamisRetriever(_DocumentCompression, BaseRetriever):
    """Finds documents, by any retriever or in a tamis index, and keeps what answers the query.

    Give `retriever`; or `index`: a `CorpusIndex` or the folder of one. `ratio=1.0` keeps all.
    """

    model_config = CONFIG

    retriever: RetrieverLike | None = None
    index: Any = None
    k: int | None = Field(None, ge=1, description="the most to look at: 10 of an index, else all")
    where: Any = Field(None, description="conditions on metadata, as CorpusIndex.search takes")
    search: str = Field("auto", description="how keys of the index are searched")
    _pool: Any = PrivateAttr(None)

    @model_validator(mode="after")
    def _check_origin(self) -> Any:
        if (self.retriever is None) == (self.index is None):
            raise BadInput("give a retriever or an index (a CorpusIndex or the folder of one)")
        return self

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        k = self._most(k)
        if self.retriever is None:
            return self.keep(self._find(query, k), query)
        child = RunnableConfig(callbacks=run_manager.get_child())
        return self.keep(list(self.retriever.invoke(query, child))[:k], query)

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        k = self._most(k)
        if self.retriever is None:
            return await self.akeep(await run_in_thread(partial(self._find, query, k)), query)
        child = RunnableConfig(callbacks=run_manager.get_child())
        return await self.akeep(list(await self.retriever.ainvoke(query, child))[:k], query)

    def _most(self, k: int | None) -> int | None:
        """How many documents a call looks at, by its own `k` or that of the constructor."""
        if k is not None and (not isinstance(k, int) or k < 1):
            raise BadInput(f"k is {k!r}; give the most documents to look at, 1 or more")
        return self.k if k is None else k

    def _find(self, query: str, most: int | None) -> list[Document]:
        """The best passages of the index in its newest state, each with its offsets."""
        if self._pool is None:
            self._pool = _pool_of(self.index)
        hits = self._pool.search(query, most or _HITS, where=self.where, search=self.search)
        return [
            Document(hit.text, id=hit.id, metadata=_hit_metadata(hit, hits.keys_read))
            for hit in hits
        ]


def _pool_of(given: Any) -> Any:
    """A pool of the given index, which stays the caller's, or of the one in the given folder."""
    from tamis.service.api.index import IndexPool, open_index

    if isinstance(given, str | Path):
        return IndexPool(open_index(given))
    return IndexPool(given, owned=False)


def _hit_metadata(hit: Any, keys_read: int) -> dict[str, Any]:
    """A document's own metadata, with the passage's offsets and score under `hit`."""
    location = {"doc": hit.doc, "start": hit.start, "end": hit.stop, "score": hit.score}
    title = {} if hit.title is None else {"title": hit.title}
    return {**title, **hit.metadata, "hit": {**location, "keys_read": keys_read}}


def _texts_by_query(pairs: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    """The texts of each query, in the order in which queries first occur."""
    texts: dict[str, list[str]] = {}
    for query, text in pairs:
        texts.setdefault(query, []).append(text)
    return texts


def _scores_in_order(
    pairs: Sequence[tuple[str, str]], found: Mapping[str, Sequence[float]]
) -> list[float]:
    """The scores of all queries' texts as one list, in the order of the pairs; a blank text has 0.

    Args:
        found: the scores of each query's texts, in order.
    """
    left = {query: iter(scores) for query, scores in found.items()}
    scores = [(text, next(left[query])) for query, text in pairs]
    return [score if text.strip() else 0.0 for text, score in scores]
