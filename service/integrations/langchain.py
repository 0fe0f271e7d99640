"""tamis in LangChain: a compressor, a transformer, a cross-encoder and a retriever.

    compressor = TamisCompressor(max_tokens=500)
    retriever = TamisRetriever(retriever=store.as_retriever(), max_tokens=500)

All four work in this process, or by a tamis server's `base_url`. Only langchain-core is needed.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tamis.probes.errors import BadInput, MissingExtra
from tamis.probes.text import Passage

try:
    from langchain_core.callbacks import (
        AsyncCallbackManagerForRetrieverRun,
        CallbackManagerForRetrieverRun,
        Callbacks,
    )
    from langchain_core.documents import (
        BaseDocumentCompressor,
        BaseDocumentTransformer,
        Document,
    )
    from langchain_core.load.serializable import Serializable
    from langchain_core.retrievers import BaseRetriever, RetrieverLike
    from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda

    if TYPE_CHECKING or find_spec("langchain_core.cross_encoders"):
        from langchain_core.cross_encoders import BaseCrossEncoder
    else:

        class BaseCrossEncoder(ABC):  # noqa: B024
            """langchain-core 1.0 has none: langchain-classic of that age has one of its own.

            There, `BaseCrossEncoder.register(TamisCrossEncoder)` makes its reranker take ours.
            """

except ImportError as error:
    raise MissingExtra(f'{error.name} is not installed; pip install "tamis[langchain]"') from error

from pydantic import Field, PrivateAttr, model_validator

from tamis.service.integrations.backend import RankingPlan, CompressedContext, run_in_thread
from tamis.service.integrations.fields import CONFIG, CompressionFields, BackendFields, copy_metadata
from tamis.service.integrations.pairs import group_by_query, scores_in_order

__all__ = ["TamisCompressor", "TamisCrossEncoder", "TamisDocumentTransformer", "TamisRetriever"]


class _DocumentCompression(CompressionFields):
    """Documents in, documents out."""

    def passages(self, documents: Sequence[Document]) -> list[Passage]:
        """What is read: text and title. Metadata stays here, also when a server does the work."""
        return [Passage(d.page_content, d.id, self._title(d)) for d in documents]

    def _title(self, document: Document) -> str | None:
        title = document.metadata.get(self.title_key) if self.title_key else None
        return title if isinstance(title, str) else None

    def shortened(self, documents: Sequence[Document], short: CompressedContext) -> list[Document]:
        """New documents with the text kept: same ids, metadata copied in depth and added to."""
        return [
            Document(
                page_content=part.text,
                id=(document := documents[part.passage]).id,
                metadata=copy_metadata(document.metadata)
                | self.added(part, short, len(document.page_content), document.metadata),
            )
            for part in short.parts
        ]

    def keep(self, documents: Sequence[Document], query: str) -> list[Document]:
        """What the documents say to the query."""
        short = self.short(query, self.passages(documents))
        return self.shortened(documents, short)

    async def akeep(self, documents: Sequence[Document], query: str) -> list[Document]:
        """`keep`, with the event loop free meanwhile."""
        short = await self.ashort(query, self.passages(documents))
        return self.shortened(documents, short)


class _PortableAdapter(Serializable):
    """Written by `langchain_core.load.dumps`; an API key only as the name of a secret.

    Read back with `loads(text, allowed_objects=[TamisCompressor], valid_namespaces=["tamis"])`.
    """

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """A loaded proxy or cache is not written, and whoever has one is refused by `loads`."""
        return True

    @property
    def lc_secrets(self) -> dict[str, str]:
        """Where a key is looked up when it is read back."""
        return {"api_key": "TAMIS_API_KEY"}


class TamisCompressor(_DocumentCompression, _PortableAdapter, BaseDocumentCompressor):
    """Keeps the sentences of documents that answer a query, verbatim, within a budget.

    One document out for each that keeps something; joined by `separator`, they are within the
    budget: 500 tokens if none is given. The documents given are not touched. Ids stay, metadata is
    copied in depth and gets `relevance_score` and `compression`: spans, tokens before and after,
    source length, answerability, model, method, status, warnings.

    Where the model or the server breaks down, every document comes back whole with the status
    `failed`, its warning says why, and it is logged; `on_error="fail"` raises instead.
    """

    model_config = CONFIG

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks = None
    ) -> list[Document]:
        """The documents, with what they say to the query.

        Raises:
            TamisError: and its kinds, where the request or the set-up is wrong. Whatever breaks
                down, under `on_error="fail"`.
        """
        return self.keep(documents, query)

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks = None
    ) -> list[Document]:
        """`compress_documents`, with the event loop free meanwhile."""
        return await self.akeep(documents, query)

    def as_runnable(
        self, documents_key: str = "documents", query_key: str = "question"
    ) -> Runnable[dict[str, Any], list[Document]]:
        """A step of a chain that takes `{"documents": [...], "question": "..."}`."""

        def run(given: dict[str, Any]) -> list[Document]:
            return self.keep(given[documents_key], given[query_key])

        async def arun(given: dict[str, Any]) -> list[Document]:
            return await self.akeep(given[documents_key], given[query_key])

        return RunnableLambda(run, afunc=arun, name="TamisCompressor")


class TamisDocumentTransformer(_DocumentCompression, _PortableAdapter, BaseDocumentTransformer):
    """`TamisCompressor` where the framework passes documents alone.

    The query is the call's, `transform_documents(documents, query=...)`; else each document's own,
    `metadata[query_key]`; else the constructor's. Documents of one query share one budget.
    """

    model_config = CONFIG

    query: str | None = None
    query_key: str = "query"

    def transform_documents(self, documents: Sequence[Document], **kwargs: Any) -> list[Document]:
        """The documents, with what they say to their query.

        Raises:
            BadInput: a document without a query.
            TamisError: and its kinds, where the request or the set-up is wrong. Whatever breaks
                down, under `on_error="fail"`.
        """
        groups = self._groups(documents, **kwargs)
        return [d for query, group in groups.items() for d in self.keep(group, query)]

    async def atransform_documents(
        self, documents: Sequence[Document], **kwargs: Any
    ) -> list[Document]:
        """`transform_documents`, with the event loop free meanwhile."""
        groups = self._groups(documents, **kwargs)
        return [d for query, group in groups.items() for d in await self.akeep(group, query)]

    def _groups(
        self, documents: Sequence[Document], query: str | None = None, **_: Any
    ) -> dict[str, list[Document]]:
        """The documents of each query, in the order in which the queries first occur.

        Other words of the call are for other transformers of the same pipeline.
        """
        groups: dict[str, list[Document]] = {}
        for place, document in enumerate(documents):
            found = query or document.metadata.get(self.query_key) or self.query
            if not isinstance(found, str):
                raise BadInput(
                    f"document {place} of {len(documents)} has no query; give one to the "
                    f"constructor, to the call (query=...), or as metadata[{self.query_key!r}]"
                )
            groups.setdefault(found, []).append(document)
        return groups


class TamisCrossEncoder(BackendFields, BaseCrossEncoder):
    """Scores pairs of query and text by what a small model looks at.

    Scores of one call and query can be compared; with a calibrated method they are probabilities.
    """

    model_config = CONFIG

    def score(self, text_pairs: list[tuple[str, str]]) -> list[float]:
        """One score a pair, in the order of the pairs. The texts of a query are read together.

        Raises:
            TamisError: and its kinds.
        """
        rows = group_by_query(text_pairs)
        return scores_in_order(rows, [self.backend.rank(q, t, self._how) for q, (_, t) in rows.items()])

    async def ascore(self, text_pairs: list[tuple[str, str]]) -> list[float]:
        """`score`, with the event loop free meanwhile."""
        rows = group_by_query(text_pairs)
        found = [await self.backend.arank(q, t, self._how) for q, (_, t) in rows.items()]
        return scores_in_order(rows, found)

    @property
    def _how(self) -> RankingPlan:
        return RankingPlan(method=self.method, language=self.language)


class TamisRetriever(_DocumentCompression, BaseRetriever):
    """Finds documents, by any retriever or in a tamis index, and keeps what answers the query.

    Give `retriever`, or `index`: a `CorpusIndex` or the folder of one. `ratio=1.0` keeps all.
    """

    model_config = CONFIG

    retriever: RetrieverLike | None = None
    index: Any = None
    k: int = Field(10, ge=1, description="how many passages of the index to look at")
    where: Any = Field(None, description="conditions on metadata, as CorpusIndex.search takes")
    _opened: Any = PrivateAttr(None)

    @model_validator(mode="after")
    def _one_origin(self) -> Any:
        if (self.retriever is None) == (self.index is None):
            raise BadInput("give a retriever, or an index (a CorpusIndex or the folder of one)")
        return self

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        if self.retriever is None:
            return self.keep(self._found(query), query)
        child = RunnableConfig(callbacks=run_manager.get_child())
        return self.keep(self.retriever.invoke(query, child), query)

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun
    ) -> list[Document]:
        if self.retriever is None:
            return await self.akeep(await run_in_thread(partial(self._found, query)), query)
        child = RunnableConfig(callbacks=run_manager.get_child())
        return await self.akeep(await self.retriever.ainvoke(query, child), query)

    def _found(self, query: str) -> list[Document]:
        """The nearest passages of the index as it is now, each with its place in its document."""
        opened = self._opened or _open_index(self.index)
        self._opened = opened.refreshed()
        hits = self._opened.search(query, self.k, where=self.where)
        return [Document(hit.text, id=hit.id, metadata=_hit_metadata(hit)) for hit in hits]


def _open_index(given: Any) -> Any:
    """An index as it is, or the one in a folder."""
    if not isinstance(given, str | Path):
        return given
    from tamis.retrieval.index.store import CorpusIndex

    return CorpusIndex.open(Path(given))


def _hit_metadata(hit: Any) -> dict[str, Any]:
    """A document's own metadata; under `hit`, where the passage stands in it and how it scored."""
    place = {"doc": hit.doc, "start": hit.start, "stop": hit.stop, "score": hit.score}
    title = {} if hit.title is None else {"title": hit.title}
    return {**title, **hit.metadata, "hit": place}
