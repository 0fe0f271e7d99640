"""A call of the Python API or of an adapter that is cancelled does not go on in its thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from langchain_core.documents import Document
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

import tamis
from tamis.langchain import TamisCompressor, TamisCrossEncoder
from tamis.llamaindex import TamisPostprocessor
from tamis.probes.interruption import check_interruption
from tamis.probes.tokens import FunctionTokenizer
from tests.scripted import ScriptedReader

ASKED = "Where is the pin?"
TEXTS = [f"Hay {i} lies here. The pin is in barn {i}." for i in range(5)]
WORDS = FunctionTokenizer(str.split)


class Gate:
    """Has whoever computes wait until the call was cancelled; then it looks whether to go on."""

    def __init__(self) -> None:
        self.begun, self.cancelled, self.ended = (threading.Event() for _ in range(3))
        self.fields: dict[str, Any] = {"proxy": ScriptedReader(self.weigh), "tokenizer": WORDS}

    def weigh(self, question: str, passage: str) -> Sequence[float]:
        self.wait()
        return [1.0] * len(passage)

    def split(self, text: str) -> list[str]:
        self.wait()
        return text.split()

    def wait(self) -> None:
        self.begun.set()
        assert self.cancelled.wait(30)
        try:
            check_interruption()
        except asyncio.CancelledError:
            self.ended.set()
            raise


def compressing(gate: Gate) -> Awaitable[Any]:
    return tamis.acompress(ASKED, TEXTS, max_tokens=6, probe=None, **gate.fields)


def reranking(gate: Gate) -> Awaitable[Any]:
    return tamis.arerank(ASKED, TEXTS, probe=None, proxy=gate.fields["proxy"])


def shortening(gate: Gate) -> Awaitable[Any]:
    return tamis.acompress_tool_output("\n".join(TEXTS), tokenizer=FunctionTokenizer(gate.split))


def in_langchain(gate: Gate) -> Awaitable[Any]:
    compressor = TamisCompressor(max_tokens=6, options={"probe": None}, **gate.fields)
    return compressor.acompress_documents([Document(text) for text in TEXTS], ASKED)


def scoring_in_langchain(gate: Gate) -> Awaitable[Any]:
    encoder = TamisCrossEncoder(options={"probe": None}, proxy=gate.fields["proxy"])
    return encoder.ascore([(ASKED, text) for text in TEXTS])


def in_llamaindex(gate: Gate) -> Awaitable[Any]:
    nodes = [NodeWithScore(node=TextNode(text=text)) for text in TEXTS]
    processor = TamisPostprocessor(max_tokens=6, options={"probe": None}, **gate.fields)
    return processor._apostprocess_nodes(nodes, QueryBundle(ASKED))


@pytest.mark.parametrize(
    "call",
    [compressing, reranking, shortening, in_langchain, scoring_in_langchain, in_llamaindex],
    ids=lambda call: call.__name__,
)
def test_what_is_cancelled_ends_at_its_next_check(call: Callable[[Gate], Awaitable[Any]]) -> None:
    gate = Gate()

    async def cancel() -> None:
        task = asyncio.ensure_future(call(gate))
        assert await asyncio.to_thread(gate.begun.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.cancelled.set()
        assert await asyncio.to_thread(gate.ended.wait, 30), "it is computed to the end"

    asyncio.run(cancel())


def test_the_async_functions_stay_the_functions_that_they_are_named_after() -> None:
    for name in ("acompress", "acompress_tool_output", "arank_tools", "arerank"):
        function = getattr(tamis, name)
        assert asyncio.iscoroutinefunction(function)
        assert function.__name__ == name
        assert function is getattr(tamis, name)
