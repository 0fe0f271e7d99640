"""tamis in LlamaIndex: a postprocessor of nodes.

    engine = index.as_query_engine(node_postprocessors=[TamisPostprocessor(max_tokens=500)])

Works in this process, or through a tamis server with `base_url`. Only llama-index-core is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tamis.probes.errors import BadInput, MissingExtra
from tamis.text.types import Passage

try:
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle, TextNode
except ImportError as error:
    raise MissingExtra(f'{error.name} is not installed; pip install "tamis[llamaindex]"') from error

from tamis.service.integrations.backend import CompressedContext, Excerpt
from tamis.service.integrations.fields import (
    CONFIG,
    CompressionFields,
    check_kind,
    copy_metadata,
    kept_position,
)

__all__ = ["TamisPostprocessor"]


class TamisPostprocessor(CompressionFields, BaseNodePostprocessor):
    """Keeps the sentences of nodes that answer the query, verbatim, within a budget.

    Returns one node for each that keeps something; joined by `separator`, their texts are within
    the budget: 500 tokens if none is given. The input nodes are not changed. Ids, relationships,
    metadata and the retriever's scores stay; `evidence_score` and `compression` are added to the
    metadata, hidden from the language model and from embeddings. A node without text, such as an
    image, stays as it is. Where the model or the server fails, every node stays whole,
    `compression` has the status `failed` and a warning that says why, and the failure is logged;
    `on_error="fail"` raises instead.

    The budget counts texts; what `MetadataMode.LLM` writes before them is not counted.
    """

    model_config = CONFIG

    @classmethod
    def class_name(cls) -> str:
        """The name in serialised pipelines."""
        return "TamisPostprocessor"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        texts = _text_nodes(nodes)
        context = self.compress_passages(_query_text(query_bundle), self._passages(texts))
        return self.join_parts(nodes, texts, context, self._compressed_node)

    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        texts = _text_nodes(nodes)
        context = await self.acompress_passages(_query_text(query_bundle), self._passages(texts))
        return self.join_parts(nodes, texts, context, self._compressed_node)

    def _passages(self, nodes: dict[int, NodeWithScore]) -> list[Passage]:
        return [self.passage(_text(n), n.node.node_id, n.node.metadata) for n in nodes.values()]

    def _compressed_node(
        self, source: NodeWithScore, part: Excerpt, context: CompressedContext
    ) -> NodeWithScore:
        text = _text(source)
        node = _copy_node(source.node, part, text)
        added = self.added_metadata(part, context, len(text))
        node.metadata |= added
        for hidden_keys in (node.excluded_llm_metadata_keys, node.excluded_embed_metadata_keys):
            hidden_keys += [key for key in added if key not in hidden_keys]
        return NodeWithScore(node=node, score=source.score)


def _copy_node(node: Any, part: Excerpt, text: str) -> Any:
    """A deep copy of a node with what is kept; only values that cannot be copied are shared.

    Where its document has its text it says for what is kept; nothing where that is in pieces.
    """
    bare = node.model_copy(update={"metadata": {}}).model_copy(deep=True)
    bare.metadata = copy_metadata(node.metadata, part, text)
    bare.set_content(part.text)
    if isinstance(node, TextNode) and part.text != text:
        begin = node.start_char_idx
        if begin is not None and node.end_char_idx in (None, begin + len(text)):
            begin = kept_position(part, text, begin)
        else:
            begin = None  # its text was exchanged before, such as for a window around it
        bare.start_char_idx = begin
        bare.end_char_idx = None if begin is None else begin + len(part.text)
    return bare


def _text_nodes(nodes: Sequence[NodeWithScore]) -> dict[int, NodeWithScore]:
    """Nodes with text, by their indices.

    Raises:
        BadInput: one has no score.
    """
    check_kind(nodes, NodeWithScore, "llama_index's NodeWithScore(node=...)", "node")
    return {index: node for index, node in enumerate(nodes) if _text(node).strip()}


def _text(node: NodeWithScore) -> str:
    return node.node.get_content(metadata_mode=MetadataMode.NONE)


def _query_text(bundle: QueryBundle | None) -> str:
    if bundle is None:
        raise BadInput("there is no query; give postprocess_nodes query_str=... or a query_bundle")
    return bundle.query_str
