"""What adapters report: never a key; always the model, and warnings for the caller."""

from __future__ import annotations

import logging
import traceback
from types import SimpleNamespace

import pytest
from langchain_core.documents import Document
from llama_index.core.schema import NodeWithScore, TextNode

from tamis.compressors.rules import MAX_TOKENS, budget_of
from tamis.probes.errors import BadInput
from tamis.service.http.schemas.compress import CompressRequest
from tamis.service.integrations.backend import CompressedContext, Excerpt
from tamis.service.integrations.client import AsyncClient, Client
from tamis.service.integrations.langchain import (
    TamisCompressor,
    TamisCrossEncoder,
    TamisDocumentTransformer,
    TamisRetriever,
)
from tamis.service.integrations.llamaindex import TamisPostprocessor
from tests.scripted import ScriptedReader
from tests.service.http.app_kit import served
from tests.service.integrations.adapter_kit import ASKED, PIN, TEXTS, WORDS
from tests.service.integrations.langchain_kit import documents

SECRET = "tamis_" + "".join(chr(97 + (7 * i) % 26) for i in range(32))
PART = 6
"""So many characters of a key are a piece of it."""
EVERYONE = (
    TamisCompressor,
    TamisDocumentTransformer,
    TamisCrossEncoder,
    TamisRetriever,
    TamisPostprocessor,
)
WRONG = [
    {"method": 7},
    {"timeout_s": -1},
    {"misspelt": True},
    {"proxy": "other"},
    {"api_kye": SECRET},
    {"api_key": [SECRET]},
    {"base_url": None},
    {"max_tokens": 10, "ratio": 0.5},
]


def loggable_text(error: BaseException) -> str:
    """All text of an error, and of its causes, that may reach a log."""
    shown, seen = ["".join(traceback.format_exception(error))], error
    while seen is not None:
        shown += [str(seen), repr(seen)]
        seen = seen.__cause__ or seen.__context__
    return "\n".join(shown)


def is_silent(text: str) -> bool:
    return not any(SECRET[i : i + PART] in text for i in range(6, len(SECRET) - PART + 1))


@pytest.mark.parametrize("kind", EVERYONE)
@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: ",".join(wrong))
def test_no_error_of_a_constructor_shows_a_piece_of_the_key(kind, wrong):
    fields = {"base_url": "http://h:1", "api_key": SECRET} | wrong
    with pytest.raises(ValueError, match="validation error") as refused:
        kind(**fields)
    assert is_silent(loggable_text(refused.value))


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize("around", ["{}\n", " {}", "{}\r\nHost: h", "{}é", "\t{}"])
def test_a_key_that_no_header_may_have_is_refused_and_not_shown(kind, around):
    with pytest.raises(BadInput, match="strip what it was read from") as refused:
        kind("http://h:1", around.format(SECRET))
    assert is_silent(loggable_text(refused.value))


def test_an_adapter_with_such_a_key_raises_whatever_on_error_says():
    made = TamisCompressor(base_url="http://127.0.0.1:9", api_key=f"{SECRET}\n")
    with pytest.raises(BadInput, match="line break") as refused:
        made.compress_documents(documents(), ASKED)
    assert is_silent(loggable_text(refused.value))


@pytest.fixture(scope="module")
def url():
    with served(ScriptedReader.from_needles(PIN)) as running:
        yield running.url


def compressions(fields):
    """What both frameworks' documents say of a compression."""
    kept = TamisCompressor(**fields).compress_documents(documents(), ASKED)
    given = [NodeWithScore(node=TextNode(text=text)) for text in TEXTS]
    nodes = TamisPostprocessor(**fields).postprocess_nodes(given, query_str=ASKED)
    found = [d.metadata["compression"] for d in kept]
    assert [n.node.metadata["compression"] for n in nodes] == found
    return found


def test_the_model_and_the_warnings_are_reported_here_and_by_a_server(url):
    wish = {"max_tokens": 30, "protect": ("Only more hay", "straw", "Hay lies here")}
    near = compressions({"proxy": ScriptedReader.from_needles(PIN), **wish})
    assert compressions({"base_url": url, **wish}) == near
    assert {found["model"] for found in near} == {"scripted"}
    for found in near:
        assert found["status"] == "ok"
        (warning,) = found["warnings"]
        assert "30" in warning


def test_a_proxy_is_called_as_on_its_card_and_need_not_be_loaded(free, tmp_path):
    (tmp_path / "reader").mkdir()
    for proxy, name in (("smollm2-135m-sharp", "smollm2-135m-sharp"), (tmp_path / "reader", None)):
        made = TamisCompressor(max_tokens=WORDS, proxy=proxy, **free)
        (kept,) = made.compress_documents(documents(), ASKED)
        assert kept.metadata["compression"]["model"] == (name or "reader")


@pytest.mark.parametrize(
    ("parts", "prefix", "logged"),
    [
        ((), "", True),
        ((Excerpt(1, PIN, ()),), None, True),
        ((Excerpt(1, PIN, ()),), "", False),
    ],
)
def test_a_warning_that_no_metadata_can_carry_is_logged(monkeypatch, caplog, parts, prefix, logged):
    short = CompressedContext(parts, "unanswerable", "lexical", 0.1, ("there is no answer",))
    monkeypatch.setattr(TamisCompressor, "backend", SimpleNamespace(compress=lambda *_: short))
    with caplog.at_level(logging.WARNING, "tamis"):
        kept = TamisCompressor(metadata_prefix=prefix).compress_documents(documents(), ASKED)
    assert len(kept) == len(parts)
    assert ("3 documents: there is no answer" in caplog.text) == logged


def test_without_a_budget_as_much_is_kept_as_over_http_and_by_the_command(free, words):
    asked = CompressRequest(question=ASKED, documents=[PIN])
    plan = TamisCompressor(**free).plan(1)
    assert plan.budget == asked.budget()
    assert plan.budget.max_tokens == MAX_TOKENS == budget_of().max_tokens
    long = [Document(" ".join(f"Straw {i} lies in the barn." for i in range(200)))]
    (kept,) = TamisCompressor(**free).compress_documents(long, ASKED)
    assert 0 < words.count(kept.page_content) <= MAX_TOKENS
    assert TamisCompressor(top_n=1, **free).plan(1).budget.ratio == 1.0
