"""tamis in LangChain: documents keep their ids and metadata, the budget holds, the loop is free."""

from __future__ import annotations

import asyncio
import copy
import inspect
import json
import logging
import threading
import warnings

import pytest
from langchain_core.documents import Document
from langchain_core.load import dumps, loads

import tamis
from tamis.probes.errors import BadInput, BudgetTooSmall, ProxyMissing, UnknownTokenizer
from tamis.service.integrations.langchain import TamisCompressor, TamisDocumentTransformer
from tests.service.integrations.adapter_kit import ASKED, PIN, TEXTS, WORDS, Gate, broken_reader
from tests.service.integrations.langchain_kit import documents


def test_what_answers_comes_back_verbatim_with_its_id_and_its_place(looking):
    given = documents()
    (kept,) = TamisCompressor(max_tokens=WORDS, **looking).compress_documents(given, ASKED)
    assert (kept.page_content, kept.id) == (PIN, "id-1")
    added = kept.metadata["compression"]
    assert [given[1].page_content[a:b] for a, b in added["spans"]] == [PIN]
    assert added["source_length"] == len(given[1].page_content)
    assert (added["tokens_before"], added["tokens_after"]) == (13, 6)
    assert (added["status"], added["method"]) == ("ok", "question_rows")
    assert 0 < kept.metadata["evidence_score"] < 1
    json.dumps(kept.metadata)


def test_a_text_in_place_of_a_document_is_refused_by_its_place(free):
    made = TamisCompressor(ratio=0.5, **free)
    with pytest.raises(BadInput, match=r"document 1 is of type str; give .*Document"):
        made.compress_documents([documents()[0], PIN], ASKED)


def test_in_shadow_documents_come_back_whole_and_metadata_says_what_would_be(looking, caplog):
    given = documents()
    caplog.set_level("INFO", "tamis")
    found = TamisCompressor(max_tokens=WORDS, shadow=True, **looking).compress_documents(
        given, ASKED
    )
    assert [d.page_content for d in found] == TEXTS
    spans = [d.metadata["compression"]["spans"] for d in found]
    assert [len(s) for s in spans] == [int(PIN in text) for text in TEXTS]
    assert {d.metadata["compression"]["status"] for d in found} == {"shadow"}
    assert "1 of 3 documents" in caplog.text


def test_the_caller_s_documents_are_not_touched_and_nothing_is_shared_with_them(free):
    given = documents()
    before = copy.deepcopy(given)
    for kept in TamisCompressor(ratio=0.5, **free).compress_documents(given, ASKED):
        kept.metadata["source"]["tags"].append("mine")
    assert given == before


@pytest.mark.parametrize("max_tokens", [6, 9, 13, 20, 25])
@pytest.mark.parametrize("order", ["original", "score", "edges"])
def test_the_documents_joined_are_what_the_library_keeps_within_the_budget(
    free, words, max_tokens, order
):
    fields = {"max_tokens": max_tokens, "order": order}
    kept = TamisCompressor(**fields, **free).compress_documents(documents(), ASKED)
    joined = "\n\n".join(document.page_content for document in kept)
    rules = tamis.Rules(order=order, top_n=None if order == "original" else 3)
    short = tamis.compress(
        ASKED, TEXTS, max_tokens=max_tokens, rules=rules, method="lexical", tokenizer=words
    )
    assert joined == short.text
    assert words.count(joined) <= max_tokens


def test_a_context_that_fits_comes_back_whole_and_no_model_is_asked(looking):
    given = documents()
    kept = TamisCompressor(max_tokens=1000, **looking).compress_documents(given, ASKED)
    assert [d.page_content for d in kept] == TEXTS
    assert looking["proxy"].prompts_read == 0
    assert {d.metadata["compression"]["status"] for d in kept} == {"passthrough"}
    assert {d.metadata["evidence_score"] for d in kept} == {None}


@pytest.mark.parametrize("wish", [{"always_score": True}, {"order": "score"}, {"top_n": 3}])
def test_scores_are_there_when_they_are_wished_for_even_if_all_fits(looking, wish):
    kept = TamisCompressor(max_tokens=1000, **wish, **looking).compress_documents(
        documents(), ASKED
    )
    scores = {d.id: d.metadata["evidence_score"] for d in kept}
    assert max(scores, key=scores.get) == "id-1"
    assert [d.page_content for d in sorted(kept, key=lambda d: d.id)] == TEXTS


def test_top_n_alone_keeps_the_best_documents_whole_best_first(looking):
    fields = {"top_n": 1, "order": "score"}
    (kept,) = TamisCompressor(**fields, **looking).compress_documents(documents(), ASKED)
    assert kept.page_content == TEXTS[1]


def test_nothing_in_is_nothing_out_and_documents_that_keep_nothing_are_dropped(free):
    compressor = TamisCompressor(max_tokens=100, **free)
    assert compressor.compress_documents([], ASKED) == []
    blank = [Document(""), Document(" \n"), Document("Hay.")]
    assert [d.page_content for d in compressor.compress_documents(blank, ASKED)] == ["Hay."]


def test_metadata_keys_can_be_prefixed_or_left_out(free):
    given = [Document(TEXTS[1], metadata={"relevance_score": 0.5})]
    named = TamisCompressor(max_tokens=6, metadata_prefix="tamis_", **free)
    (kept,) = named.compress_documents(given, ASKED)
    assert kept.metadata["relevance_score"] == 0.5
    assert set(kept.metadata) == {"relevance_score", "tamis_evidence_score", "tamis_compression"}
    bare = TamisCompressor(max_tokens=6, metadata_prefix=None, **free)
    assert bare.compress_documents(given, ASKED)[0].metadata == {"relevance_score": 0.5}


def test_a_title_in_the_metadata_is_read_and_not_shown(looking):
    compressor = TamisCompressor(max_tokens=6, title_key="title", **looking)
    given = [Document(TEXTS[1], metadata={"title": "Of barns"}), Document("Hay.")]
    (kept,) = compressor.compress_documents(given, ASKED)
    assert kept.page_content == PIN
    first, second = compressor.passages(given)
    assert (first.title, first.text, second.title) == ("Of barns", TEXTS[1], None)


def test_a_model_that_breaks_down_passes_every_document_through_and_it_is_logged(looking, caplog):
    given = [*documents(), Document("", id="scan", metadata={"image": "x.png"})]
    failing = TamisCompressor(max_tokens=WORDS, **looking | {"proxy": broken_reader()})
    with caplog.at_level(logging.WARNING, "tamis"):
        kept = failing.compress_documents(given, ASKED)
    assert [(d.page_content, d.id) for d in kept] == [(d.page_content, d.id) for d in given]
    assert {d.metadata["compression"]["status"] for d in kept} == {"failed"}
    why = ["RuntimeError: the card fell off the bus"]
    assert [d.metadata["compression"]["warnings"] for d in kept] == [why] * len(given)
    told = f"{len(given)} documents are passed through uncompressed: the card fell off"
    assert told in caplog.text
    assert asyncio.run(failing.acompress_documents(given, ASKED)) == kept


@pytest.mark.parametrize("word", ["fail", "raise"])
def test_or_it_is_raised_in_the_words_of_http_and_of_before(looking, word):
    failing = TamisCompressor(
        max_tokens=WORDS, on_error=word, **looking | {"proxy": broken_reader()}
    )
    assert failing.on_error == "fail"
    with pytest.raises(RuntimeError, match="fell off"):
        failing.compress_documents(documents(), ASKED)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"max_tokens": 1}, BudgetTooSmall),
        ({"max_tokens": 6, "tokenizer": "gpt-9"}, UnknownTokenizer),
        ({"max_tokens": 6, "method": "question_rows", "proxy": "smollm2-135m"}, ProxyMissing),
    ],
)
def test_what_would_go_wrong_each_time_is_raised_all_the_same(free, tmp_path, fields, error):
    wrong = free | {"root": tmp_path} | fields
    with pytest.raises(error):
        TamisCompressor(on_error="passthrough", **wrong).compress_documents(documents(), ASKED)
    if fields == {"max_tokens": 1}:
        with pytest.raises(BadInput, match="empty"):
            TamisCompressor(**free).compress_documents(documents(), " ")


@pytest.mark.parametrize(
    ("fields", "words_said"),
    [
        ({"max_tokens": 10, "ratio": 0.5}, "max_tokens.* and .*ratio"),
        ({"max_tokens": 10, "proxy": None}, "proxy is NoneType; give a name"),
        ({"max_tokens": 10, "quality": "best", "base_url": "http://localhost"}, "a server, which"),
        ({"max_tokens": 10, "method": "lexcal"}, "did you mean 'lexical'"),
        ({"max_tokens": 10, "method": "edges"}, "is a method of ordering"),
        ({"max_tokens": 10, "maxtokens": 10}, "Extra inputs are not permitted"),
        ({"max_tokens": 10, "order": "sideways"}, "'original', 'score' or 'edges'"),
        ({"max_tokens": 10, "api_key": "k"}, "give base_url"),
        ({"max_tokens": 10, "base_url": "http://localhost", "tokenizer": object()}, "their names"),
        ({"max_tokens": 10, "base_url": "http://localhost", "cache": object()}, "one or the other"),
    ],
)
def test_a_wrong_field_is_refused_by_the_constructor(fields, words_said):
    with pytest.raises(ValueError, match=words_said):
        TamisCompressor(**fields)


def read_back(text, **how):
    """What `dumps` wrote; langchain-core 1.0 has no list of classes that may be made."""
    if "allowed_objects" in inspect.signature(loads).parameters:
        how["allowed_objects"] = [TamisCompressor, TamisDocumentTransformer]
    with warnings.catch_warnings(action="ignore"):  # `loads` says that it is in beta
        return loads(text, valid_namespaces=["tamis"], **how)


def test_langchain_s_own_serialisation_and_pydantic_s_both_round_trip():
    made = TamisCompressor(
        max_tokens=9, method="lexical", protect=("[0-9]",), metadata_prefix=None, separator=""
    )
    text = dumps(made)
    assert read_back(text) == made
    assert TamisCompressor.model_validate_json(made.model_dump_json()) == made
    transformer = TamisDocumentTransformer(ratio=0.5, method="lexical", query=ASKED)
    assert read_back(dumps(transformer)) == transformer


def test_an_api_key_is_written_as_a_name_only():
    made = TamisCompressor(max_tokens=9, base_url="http://localhost:1", api_key="tms-secret")
    for written in (dumps(made), repr(made), made.model_dump_json()):
        assert "tms-secret" not in written
    assert "TAMIS_API_KEY" in dumps(made)
    back = read_back(dumps(made), secrets_map={"TAMIS_API_KEY": "tms-secret"})
    assert back.api_key.get_secret_value() == "tms-secret"


def test_async_gives_the_same_documents(looking):
    compressor = TamisCompressor(max_tokens=WORDS, **looking)
    kept = asyncio.run(compressor.acompress_documents(documents(), ASKED))
    assert kept == compressor.compress_documents(documents(), ASKED)
    assert asyncio.run(compressor.acompress_documents([], ASKED)) == []


def gated(gate, words, **fields):
    return TamisCompressor(
        max_tokens=WORDS,
        proxy=gate.reader(),
        options={"probe": None},
        tokenizer=words,
        **fields,
    )


def test_the_event_loop_runs_while_the_model_reads(words):
    gate = Gate()

    async def both():
        reading = asyncio.ensure_future(gated(gate, words).acompress_documents(documents(), ASKED))
        assert await asyncio.to_thread(gate.begun)
        gate.open()  # nobody would come here if the loop were blocked
        return await reading

    assert [d.page_content for d in asyncio.run(both())] == [PIN]


def test_a_cancelled_question_returns_at_once_and_is_never_begun_if_it_still_waits(words):
    gate = Gate()
    compressor = gated(gate, words, on_error="passthrough")

    async def crowd():
        first = [
            asyncio.ensure_future(compressor.acompress_documents(documents(), f"{ASKED} {i}"))
            for i in range(4)
        ]
        for _ in first:
            assert await asyncio.to_thread(gate.begun)
        late = asyncio.ensure_future(compressor.acompress_documents(documents(), "Too late?"))
        await asyncio.sleep(0.05)
        for task in (late, first[0]):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        gate.open()
        return await asyncio.gather(*first[1:])

    for kept in asyncio.run(crowd()):
        assert [d.page_content for d in kept] == [PIN]
    assert not any("Too late?" in asked for asked in gate.asked)


def test_a_rankings_score_stays_beside_the_evidence(free):
    """Words alone score beyond 1; what the documents say is in [0, 1] for every method."""
    given = [Document(TEXTS[1], metadata={"relevance_score": 0.9}), Document("Hay.")]
    for wish, least in (({}, None), ({"always_score": True}, 0.5)):
        found = TamisCompressor(max_tokens=1000, **wish, **free).compress_documents(given, ASKED)
        assert [d.metadata.get("relevance_score") for d in found] == [0.9, None]
        score = found[0].metadata["evidence_score"]
        assert score is None if least is None else least < score < 1
    failing = free | {
        "method": "question_rows",
        "proxy": broken_reader(),
        "options": {"probe": None},
    }
    failed = TamisCompressor(max_tokens=6, **failing)
    assert failed.compress_documents(given[:1], ASKED)[0].metadata["relevance_score"] == 0.9


def test_metadata_that_cannot_be_copied_is_shared_and_the_rest_is_copied(free):
    held = {"lock": threading.Lock(), "tags": ["x"]}
    (kept,) = TamisCompressor(max_tokens=6, **free).compress_documents(
        [Document(TEXTS[1], metadata=held)], ASKED
    )
    assert kept.metadata["lock"] is held["lock"]
    assert kept.metadata["tags"] == ["x"]
    assert kept.metadata["tags"] is not held["tags"]
    assert "compression" not in held
