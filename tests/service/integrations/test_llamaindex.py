"""tamis in LlamaIndex: nodes keep ids, relationships and scores, and the prompt gets text alone."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest
from llama_index.core import Settings as LlamaSettings
from llama_index.core import SummaryIndex
from llama_index.core.llms import MockLLM
from llama_index.core.schema import (
    ImageNode,
    MetadataMode,
    NodeRelationship,
    NodeWithScore,
    QueryBundle,
    RelatedNodeInfo,
    TextNode,
)

import tamis
from tamis.probes.errors import BadInput
from tamis.service.integrations.llamaindex import TamisPostprocessor
from tests.scripted import ScriptedReader
from tests.service.integrations.adapter_kit import ASKED, PIN, TEXTS, WORDS, Gate, broken_reader


def nodes():
    return [
        NodeWithScore(
            node=TextNode(
                text=text,
                id_=f"id-{i}",
                metadata={"file": f"{i}.md"},
                relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=f"doc-{i}")},
            ),
            score=0.9 - i / 10,
        )
        for i, text in enumerate(TEXTS)
    ]


def text(found):
    return found.node.get_content(metadata_mode=MetadataMode.NONE)


def test_what_answers_is_kept_with_id_relationships_and_the_retriever_s_score(words):
    fields = {
        "proxy": ScriptedReader.from_needles(PIN),
        "options": {"probe": None},
        "tokenizer": words,
    }
    given = nodes()
    before = [node.to_dict() for node in given]
    (kept,) = TamisPostprocessor(max_tokens=WORDS, **fields).postprocess_nodes(
        given, query_str=ASKED
    )
    assert (text(kept), kept.node.node_id, kept.score) == (PIN, "id-1", given[1].score)
    assert kept.node.relationships == given[1].node.relationships
    ((start, stop),) = kept.node.metadata["compression"]["spans"]
    assert TEXTS[1][start:stop] == PIN
    assert kept.node.metadata["file"] == "1.md"
    kept.node.metadata["file"] = "mine"
    assert [node.to_dict() for node in given] == before


def test_what_is_added_reaches_neither_the_prompt_nor_an_embedding(free):
    (kept,) = TamisPostprocessor(max_tokens=WORDS, **free).postprocess_nodes(
        nodes(), query_str=ASKED
    )
    assert "compression" in kept.node.metadata
    for mode in (MetadataMode.LLM, MetadataMode.EMBED):
        shown = kept.node.get_content(metadata_mode=mode)
        assert PIN in shown
        assert "file: 1.md" in shown
        assert "compression" not in shown
        assert "evidence_score" not in shown


@pytest.mark.parametrize("max_tokens", [6, 13, 20, 25])
@pytest.mark.parametrize("order", ["original", "score", "edges"])
def test_the_nodes_joined_are_what_the_library_keeps(free, words, max_tokens, order):
    processor = TamisPostprocessor(max_tokens=max_tokens, order=order, **free)
    joined = "\n\n".join(map(text, processor.postprocess_nodes(nodes(), query_str=ASKED)))
    rules = tamis.Rules(order=order, top_n=None if order == "original" else 3)
    how = {"rules": rules, "method": "lexical", "tokenizer": words}
    assert joined == tamis.compress(ASKED, TEXTS, max_tokens=max_tokens, **how).text
    assert words.count(joined) <= max_tokens


def test_a_node_without_text_stays_in_its_place(free):
    image = NodeWithScore(node=ImageNode(image_url="http://localhost/a.png", id_="image"))
    given = [nodes()[1], image, NodeWithScore(node=TextNode(text=f"{PIN} Hay.", id_="last"))]
    how = {"max_tokens": 13, "dedup": None, **free}
    kept = TamisPostprocessor(**how).postprocess_nodes(given, query_str=ASKED)
    assert [found.node.node_id for found in kept] == ["id-1", "image", "last"]
    assert kept[1] == image
    ranked = TamisPostprocessor(order="score", **how)
    kept = ranked.postprocess_nodes(given, query_str=ASKED)
    assert kept[-1].node.node_id == "image"


def test_nothing_in_is_nothing_out_and_a_query_is_needed(free):
    processor = TamisPostprocessor(max_tokens=WORDS, **free)
    assert processor.postprocess_nodes([], query_str=ASKED) == []
    with pytest.raises(BadInput, match="there is no query"):
        processor.postprocess_nodes(nodes())


def test_a_node_without_a_score_is_named(free):
    bare = [*nodes()[:1], TextNode(text=TEXTS[0])]
    with pytest.raises(BadInput, match=r"node 1 is of type TextNode; give .*NodeWithScore"):
        TamisPostprocessor(**free).postprocess_nodes(bare, query_str=ASKED)


def test_a_model_that_breaks_down_passes_the_nodes_through_and_bad_input_is_raised(
    free, looking, caplog
):
    processor = TamisPostprocessor(max_tokens=WORDS, **looking | {"proxy": broken_reader()})
    with caplog.at_level(logging.WARNING, "tamis"):
        kept = processor.postprocess_nodes(nodes(), query_str=ASKED)
    assert [text(found) for found in kept] == TEXTS
    warnings = [found.node.metadata["compression"]["warnings"] for found in kept]
    assert warnings == [["RuntimeError: the card fell off the bus"]] * len(TEXTS)
    assert "fell off the bus" in caplog.text
    with pytest.raises(BadInput, match="budget is 1"):
        TamisPostprocessor(max_tokens=1, **free).postprocess_nodes(nodes(), query_str=ASKED)


def test_async_leaves_the_event_loop_free_and_gives_the_same(words):
    gate = Gate()
    processor = TamisPostprocessor(
        max_tokens=WORDS, proxy=gate.reader(), options={"probe": None}, tokenizer=words
    )

    async def both():
        reading = asyncio.ensure_future(processor._apostprocess_nodes(nodes(), QueryBundle(ASKED)))
        assert await asyncio.to_thread(gate.begun)
        gate.open()  # nobody would come here if the loop were blocked
        return await reading

    assert [text(found) for found in asyncio.run(both())] == [PIN]


def test_it_round_trips_as_llamaindex_writes_components(free):
    made = TamisPostprocessor(ratio=0.5, method="lexical", metadata_prefix=None)
    back = TamisPostprocessor.from_json(made.to_json())
    assert back.model_dump() == made.model_dump()
    assert made.to_dict()["class_name"] == "TamisPostprocessor"


def test_a_query_engine_prompts_with_what_was_kept(free, monkeypatch):
    prompts = []

    class Telling(MockLLM):
        def complete(self, prompt, formatted=False, **how):
            prompts.append(prompt)
            return super().complete(prompt, formatted, **how)

    monkeypatch.setattr(LlamaSettings, "_llm", Telling())
    index = SummaryIndex([found.node for found in nodes()])
    engine = index.as_query_engine(
        node_postprocessors=[TamisPostprocessor(max_tokens=WORDS, **free)]
    )
    answer = engine.query(ASKED)
    assert [found.node.node_id for found in answer.source_nodes] == ["id-1"]
    assert PIN in prompts[0]
    assert "Nothing to see" not in prompts[0]


def test_a_score_from_upstream_and_metadata_that_cannot_be_copied_stay(free):
    lock = threading.Lock()
    (given, *_) = nodes()
    given.node.metadata = {"relevance_score": 0.9, "lock": lock, "tags": ["x"]}
    (kept,) = TamisPostprocessor(max_tokens=1000, **free).postprocess_nodes(
        [given], query_str=ASKED
    )
    assert kept.node.metadata["relevance_score"] == 0.9
    assert kept.node.metadata["evidence_score"] is None
    assert kept.node.metadata["lock"] is lock
    kept.node.metadata["tags"].append("mine")
    kept.node.excluded_llm_metadata_keys.append("mine")
    assert given.node.metadata == {"relevance_score": 0.9, "lock": lock, "tags": ["x"]}
    assert given.node.excluded_llm_metadata_keys == []
    assert kept.node.relationships == given.node.relationships
