"""Where a text says that it begins in its source is right for what is kept of it, or None."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from langchain_core.documents import Document
from llama_index.core.schema import NodeWithScore, TextNode

from tamis.langchain import TamisCompressor
from tamis.llamaindex import TamisPostprocessor
from tamis.probes.tokens import FunctionTokenizer
from tests.scripted import ScriptedReader
from tests.service.http.app_kit import served

PIN, CHEST = "The pin is in the barn.", "The pin lies in a chest."
ASKED = "Where is the pin?"
ONE_PIECE = f"Hay lies here. {PIN} {CHEST} More hay lies there."
TWO_PIECES = f"{PIN} Hay lies here, and more hay lies there, and straw. {CHEST}"
BEFORE = "An earlier part of the document. "
WORDS = FunctionTokenizer(str.split)
LOOKING = {
    "proxy": ScriptedReader.from_needles(PIN, CHEST), "options": {"probe": None},
    "tokenizer": WORDS, "max_tokens": 12, "always_score": True,
}  # fmt: skip


def langchain(text: str, metadata: dict[str, Any], **fields: Any) -> Document:
    given = Document(text, metadata=metadata)
    before = copy.deepcopy(given)
    (kept,) = TamisCompressor(**LOOKING | fields).compress_documents([given], ASKED)
    assert given == before
    return kept


def llamaindex(text: str, start: int | None, end: int | None, **fields: Any) -> TextNode:
    given = NodeWithScore(node=TextNode(text=text, start_char_idx=start, end_char_idx=end))
    before = given.to_dict()
    processor = TamisPostprocessor(**LOOKING | fields)
    (kept,) = processor.postprocess_nodes([given], query_str=ASKED)
    assert given.to_dict() == before
    return kept.node


def test_one_piece_is_where_its_document_says_that_it_is():
    source = BEFORE + ONE_PIECE
    node = llamaindex(ONE_PIECE, len(BEFORE), len(source))
    assert source[node.start_char_idx : node.end_char_idx] == node.text == f"{PIN} {CHEST}"
    kept = langchain(ONE_PIECE, {"start_index": len(BEFORE)})
    start = kept.metadata["start_index"]
    assert source[start : start + len(kept.page_content)] == kept.page_content == f"{PIN} {CHEST}"


def test_pieces_are_nowhere_and_their_spans_say_where_each_is():
    node = llamaindex(TWO_PIECES, len(BEFORE), len(BEFORE + TWO_PIECES))
    kept = langchain(TWO_PIECES, {"start_index": len(BEFORE)})
    assert node.start_char_idx is node.end_char_idx is kept.metadata["start_index"] is None
    for metadata in (node.metadata, kept.metadata):
        spans = metadata["compression"]["spans"]
        assert [TWO_PIECES[start:end] for start, end in spans] == [PIN, CHEST]


@pytest.mark.parametrize("how", [{"max_tokens": 100}, {"shadow": True}])
@pytest.mark.parametrize("text", [ONE_PIECE, TWO_PIECES])
def test_what_stays_whole_stays_where_it_was(text: str, how: dict[str, Any]):
    node = llamaindex(text, len(BEFORE), len(BEFORE + text), **how)
    kept = langchain(text, {"start_index": len(BEFORE)}, **how)
    assert (node.text, kept.page_content) == (text, text)
    assert (node.start_char_idx, node.end_char_idx) == (len(BEFORE), len(BEFORE + text))
    assert kept.metadata["start_index"] == len(BEFORE)


def test_without_metadata_of_ours_positions_are_right_all_the_same():
    kept = langchain(ONE_PIECE, {"start_index": len(BEFORE)}, metadata_prefix=None)
    assert kept.metadata == {"start_index": len(BEFORE) + ONE_PIECE.index(PIN)}


def test_a_position_that_is_none_stays_as_it_is():
    assert langchain(TWO_PIECES, {"start_index": -1}).metadata["start_index"] == -1
    assert langchain(ONE_PIECE, {"start_index": "7"}).metadata["start_index"] == "7"
    assert "start_index" not in langchain(ONE_PIECE, {}).metadata
    assert llamaindex(ONE_PIECE, None, None).start_char_idx is None


def test_a_node_with_another_text_than_its_document_has_there_is_nowhere():
    """As `MetadataReplacementPostProcessor` leaves nodes: with the window around a sentence."""
    node = llamaindex(ONE_PIECE, len(BEFORE), len(BEFORE) + 5)
    assert node.start_char_idx is node.end_char_idx is None


def test_through_a_service_positions_are_right_as_well():
    with served(ScriptedReader.from_needles(PIN, CHEST)) as service:
        there = {"base_url": service.url, "max_tokens": 60, "on_error": "fail"}
        node = (
            TamisPostprocessor(**there)
            .postprocess_nodes(
                [NodeWithScore(node=TextNode(text=ONE_PIECE, start_char_idx=9, end_char_idx=None))],
                query_str=ASKED,
            )[0]
            .node
        )
    source = "123456789" + ONE_PIECE
    assert node.text != ONE_PIECE
    assert source[node.start_char_idx : node.end_char_idx] == node.text
