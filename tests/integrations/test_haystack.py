"""tamis in Haystack: a ranker in real pipelines, saved and loaded, here and through a service."""

from __future__ import annotations

import asyncio
import copy
import os

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"  # nothing is sent

import pytest
from haystack import Document, Pipeline
from haystack.components.builders import PromptBuilder
from haystack.components.retrievers.in_memory import InMemoryBM25Retriever
from haystack.dataclasses import ByteStream, ChatMessage, ToolCall
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.utils import Secret

from tamis.haystack import TamisCompactor, TamisRanker
from tamis.probes.errors import BadInput
from tamis.probes.tokens import FunctionTokenizer
from tests.scripted import ScriptedReader
from tests.service.http.app_kit import served
from tests.service.integrations.adapter_kit import ASKED, PIN, TEXTS, WORDS, Gate, broken_reader

KEY = "0123456789abcdef"
WORD_COUNT = FunctionTokenizer(str.split)
FREE = {"method": "lexical", "tokenizer": WORD_COUNT}
LOOKING = {
    "proxy": ScriptedReader.from_needles(PIN), "options": {"probe": None}, "tokenizer": WORD_COUNT
}  # fmt: skip


def documents() -> list[Document]:
    return [
        Document(id=f"id-{i}", content=text, meta={"file": f"{i}.md"}, score=0.5, embedding=[1.0])
        for i, text in enumerate(TEXTS)
    ]


def test_what_answers_is_kept_with_id_meta_and_spans_and_the_input_is_not_changed():
    given = documents()
    before = copy.deepcopy(given)
    (kept,) = TamisRanker(max_tokens=WORDS, **LOOKING).run(ASKED, given)["documents"]
    assert (kept.content, kept.id, kept.embedding) == (PIN, "id-1", [1.0])
    assert kept.score == kept.meta["evidence_score"] != 0.5
    ((start, stop),) = kept.meta["compression"]["spans"]
    assert TEXTS[1][start:stop] == PIN
    assert kept.meta["file"] == "1.md"
    assert given == before


def test_what_a_splitter_says_of_its_place_is_right_for_what_is_kept():
    """One piece begins where `split_idx_start` says; of several pieces that says nothing."""
    source = f"An earlier part. {TEXTS[1]}"
    meta = {"split_idx_start": source.index(TEXTS[1])}
    ranker = TamisRanker(max_tokens=WORDS, **LOOKING)
    (kept,) = ranker.run(ASKED, [Document(content=TEXTS[1], meta=meta)])["documents"]
    assert kept.content == PIN
    assert source[kept.meta["split_idx_start"] :].startswith(PIN)
    pieces = f"{PIN} Hay lies here, and more hay lies there. {PIN.replace('barn', 'shed')}"
    needles = ScriptedReader.from_needles(PIN, PIN.replace("barn", "shed"))
    ranker = TamisRanker(max_tokens=2 * WORDS + 1, **LOOKING | {"proxy": needles})
    (kept,) = ranker.run(ASKED, [Document(content=pieces, meta=meta)])["documents"]
    assert kept.meta["split_idx_start"] is None
    assert len(kept.meta["compression"]["spans"]) == 2


def test_top_k_alone_ranks_whole_documents_best_first():
    found = TamisRanker(top_k=2, **LOOKING).run(ASKED, documents())["documents"]
    assert [document.content for document in found[:1]] == [TEXTS[1]]
    assert len(found) == 2
    assert found[0].score > found[1].score
    (best,) = TamisRanker(top_k=2, **LOOKING).run(ASKED, documents(), top_k=1)["documents"]
    assert best.content == TEXTS[1]


def test_top_k_of_a_run_narrows_the_budget_and_does_not_replace_it():
    ranker = TamisRanker(max_tokens=WORDS, **LOOKING)
    (kept,) = ranker.run(ASKED, documents(), top_k=3)["documents"]
    assert kept.content == PIN


def test_documents_keep_their_order_where_that_is_asked_for():
    ranker = TamisRanker(ratio=1.0, order="original", **FREE)
    assert [d.id for d in ranker.run(ASKED, documents())["documents"]] == ["id-0", "id-1", "id-2"]


@pytest.mark.parametrize("order", ["original", "score"])
def test_a_document_without_text_stays_in_its_place_or_last(order):
    image = Document(id="image", blob=ByteStream(b"x", mime_type="image/png"))
    given = [image, *documents()]
    found = TamisRanker(ratio=1.0, order=order, **LOOKING).run(ASKED, given)["documents"]
    assert found[0 if order == "original" else -1] == image
    assert len(found) == 4


def test_nothing_in_is_nothing_out():
    assert TamisRanker(**FREE).run(ASKED, []) == {"documents": []}


def test_what_is_no_document_is_named():
    with pytest.raises(BadInput, match=r"document 1 is of type str; give .*Document"):
        TamisRanker(**FREE).run(ASKED, [*documents()[:1], "a text"])


def test_a_wrong_field_is_refused_when_the_component_is_made():
    with pytest.raises(ValueError, match="max_tokns"):
        TamisRanker(max_tokns=5)
    with pytest.raises(BadInput, match="same"):
        TamisRanker(top_k=1, top_n=2)
    with pytest.raises(ValueError, match="top_n"):
        TamisRanker(top_k=0, **FREE)


def test_a_model_that_breaks_down_passes_documents_through_or_fails_as_asked():
    broken = {**LOOKING, "proxy": broken_reader()}
    found = TamisRanker(max_tokens=WORDS, **broken).run(ASKED, documents())["documents"]
    assert [document.content for document in found] == TEXTS
    assert found[0].meta["compression"]["status"] == "failed"
    assert "fell off the bus" in found[0].meta["compression"]["warnings"][0]
    with pytest.raises(RuntimeError, match="fell off the bus"):
        TamisRanker(max_tokens=WORDS, on_error="fail", **broken).run(ASKED, documents())


def test_async_leaves_the_event_loop_free_and_gives_the_same():
    gate = Gate()
    ranker = TamisRanker(max_tokens=WORDS, **{**LOOKING, "proxy": gate.reader()})

    async def both():
        reading = asyncio.ensure_future(ranker.run_async(ASKED, documents()))
        assert await asyncio.to_thread(gate.begun)
        gate.open()
        return await reading

    assert [document.content for document in asyncio.run(both())["documents"]] == [PIN]


def rag(ranker: TamisRanker) -> Pipeline:
    """Retriever, ranker and prompt, as in Haystack's own tutorials."""
    store = InMemoryDocumentStore()
    store.write_documents([Document(content=text) for text in TEXTS])
    pipeline = Pipeline()
    pipeline.add_component("retriever", InMemoryBM25Retriever(store, top_k=3))
    pipeline.add_component("ranker", ranker)
    template = "{% for d in documents %}[{{ d.content }}]{% endfor %} {{ query }}"
    pipeline.add_component("prompt", PromptBuilder(template, required_variables=["documents"]))
    pipeline.connect("retriever.documents", "ranker.documents")
    pipeline.connect("ranker.documents", "prompt.documents")
    return pipeline


def asked_of(pipeline: Pipeline) -> str:
    parts = ("retriever", "ranker", "prompt")
    return pipeline.run({part: {"query": ASKED} for part in parts})["prompt"]["prompt"]


def test_in_a_pipeline_the_prompt_has_what_was_kept():
    assert asked_of(rag(TamisRanker(max_tokens=WORDS, **LOOKING))) == f"[{PIN}] {ASKED}"


def loads(text: str) -> Pipeline:
    """A pipeline of a file; Haystack 3 imports only what it is allowed to."""
    try:
        return Pipeline.loads(text, allowed_modules=["tamis.*"])
    except TypeError:
        return Pipeline.loads(text)


def test_a_saved_pipeline_is_loaded_with_its_key_from_the_environment(monkeypatch):
    monkeypatch.setenv("TAMIS_API_KEY", KEY)
    with served(method="lexical", api_keys=(f"ada:{KEY}",)) as service:
        key = Secret.from_env_var("TAMIS_API_KEY")
        there = {"base_url": service.url, "api_key": key, "method": "lexical", "on_error": "fail"}
        ranker = TamisRanker(max_tokens=30, top_k=1, **there)
        saved = rag(ranker).dumps()
        assert KEY not in saved
        assert "TAMIS_API_KEY" in saved
        prompt = asked_of(loads(saved))
    assert PIN in prompt
    assert TEXTS[1] not in prompt


def test_what_no_file_can_hold_is_named():
    with pytest.raises(BadInput, match="proxy is a ScriptedReader"):
        TamisRanker(**LOOKING).to_dict()
    with pytest.raises(ValueError, match=r"(?i)token"):
        TamisRanker(base_url="http://there", api_key=KEY).to_dict()


FILE = "".join(f"def step_{i}(order):\n    return order.part_{i}\n" for i in range(60))


def steps(*calls: tuple[str, str], is_offloaded: bool = False) -> list[ChatMessage]:
    """A conversation of an agent: the file that each call reads, and what it has."""
    messages = [ChatMessage.from_system("Be brief."), ChatMessage.from_user("Why does it fail?")]
    for i, (path, text) in enumerate(calls):
        call = ToolCall("read_file", {"path": path}, f"c{i}")
        messages.append(ChatMessage.from_assistant(tool_calls=[call]))
        meta = {"tool_result_offloaded": True} if is_offloaded else {}
        messages.append(ChatMessage.from_tool(text, origin=call, meta=meta))
    return messages


CALLS = [("a.py", f"# a\n{FILE}"), ("b.py", f"# b\n{FILE}"), ("a.py", f"# a\n{FILE}")]


def test_a_compactor_keeps_calls_and_results_together_and_the_last_steps_whole():
    counting = pytest.importorskip("haystack.token_counters").ApproximateTokenCounter()
    given = steps(*CALLS, ("c.py", FILE), ("d.py", FILE))
    before, whole = copy.deepcopy(given), counting.count(messages=given)
    compactor = TamisCompactor(no_store=True)
    assert compactor.compact(given, whole, counting) is None
    free = compactor.compact(given, whole - 100, counting)
    assert given == before
    assert "the same call was made again below" in free[3].tool_call_result.result
    assert [m for i, m in enumerate(free) if i != 3] == [m for i, m in enumerate(given) if i != 3]
    least = asyncio.run(compactor.compact_async(given, 0, counting))
    assert [m.tool_call_result and m.tool_call_result.origin for m in least] == [
        m.tool_call_result and m.tool_call_result.origin for m in given
    ]
    assert least[-4:] == given[-4:]
    assert counting.count(messages=least) < 0.6 * whole
    offloaded = steps(*CALLS, ("c.py", FILE), ("d.py", FILE), is_offloaded=True)
    assert compactor.compact(offloaded, 0, counting) is None


def test_an_agent_s_hook_calls_the_compactor_and_saves_it():
    compaction = pytest.importorskip("haystack.hooks.compaction")
    from haystack.components.agents.state.state import State

    hook = compaction.CompactionHook(
        TamisCompactor(min_keep_steps=1, no_store=True), context_window=2_000
    )
    state = State(schema={}, data={"messages": steps(*CALLS)})
    hook.run(state)
    texts = [m.tool_call_result.result for m in state.data["messages"] if m.tool_call_result]
    assert "omitted" in texts[0]
    assert texts[-1] == CALLS[-1][1]
    saved = hook.to_dict()["init_parameters"]["compactor"]
    assert TamisCompactor.from_dict(saved).to_dict() == saved


def test_a_compactor_that_may_drop_the_last_results_is_refused():
    with pytest.raises(BadInput, match="min_keep_steps is 0"):
        TamisCompactor(min_keep_steps=0)
