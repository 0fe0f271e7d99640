"""LangChain and LlamaIndex by a server's URL: what comes back is what this process would give."""

from __future__ import annotations

import asyncio
import re
from types import SimpleNamespace

import pytest
from langchain_core.documents import Document
from llama_index.core.schema import NodeWithScore, TextNode

from tamis.probes.errors import BadInput
from tamis.service.integrations.backend import RankingPlan
from tamis.service.integrations.client import AsyncClient, Client, ServiceError
from tamis.service.integrations.langchain import TamisCompressor, TamisCrossEncoder
from tamis.service.integrations.llamaindex import TamisPostprocessor
from tamis.service.integrations.remote import (
    _MAX_PAUSED_LOOPS,
    RemoteBackend,
    _request_documents,
    _request_slices,
)
from tests.scripted import ScriptedReader
from tests.service.http.app_kit import served
from tests.service.integrations.adapter_kit import ASKED, PIN, TEXTS

KEY = "tms-a-long-enough-key-for-tests"
LONG = [*TEXTS, f"Straw… 🐐 lies here.  {PIN}\nAnother line lies there. Tea is brewed."]


@pytest.fixture(scope="module")
def url():
    with served(ScriptedReader.from_needles(PIN), api_keys=(f"tests:{KEY}",)) as running:
        yield running.url


@pytest.fixture
def there(url):
    return {"base_url": url, "api_key": KEY, "method": "lexical"}


def here():
    """As the server does it, in this process."""
    return {"proxy": ScriptedReader.from_needles(PIN), "method": "lexical"}


def documents():
    made = [Document(text, id=f"id-{i}", metadata={"n": i}) for i, text in enumerate(LONG)]
    made[1].metadata["title"] = "Of barns"
    return made


WISHES = [
    {"max_tokens": 30},
    {"max_tokens": 120, "granularity": "block"},
    {"max_tokens": 80, "order": "score"},
    {"max_tokens": 120, "order": "edges", "elision": "…"},
    {"ratio": 0.4, "separator": " | ", "context_window": 1},
    {"ratio": 0.3, "protect": ("Tea",), "dedup": 0.9, "title_key": "title"},
    {"top_n": 2, "order": "score"},
    {"max_tokens": 10_000},
    {"max_tokens": 10_000, "always_score": True},
]


@pytest.mark.parametrize("wish", WISHES, ids=str)
def test_documents_are_the_same_as_in_this_process(there, wish):
    near = TamisCompressor(**wish, **here()).compress_documents(documents(), ASKED)
    far = TamisCompressor(**wish, **there)
    assert far.compress_documents(documents(), ASKED) == near
    assert asyncio.run(far.acompress_documents(documents(), ASKED)) == near


def test_titles_are_sent_and_neither_ids_nor_metadata(there):
    compressor = TamisCompressor(max_tokens=30, title_key="title", **there)
    sent = _request_documents(compressor.passages(documents()))
    assert sent[:2] == [{"text": LONG[0]}, {"text": LONG[1], "title": "Of barns"}]


def test_of_the_metadata_only_what_is_read_is_sent(there):
    given = [Document(TEXTS[1], metadata={"handle": object, "speaker": "Ann"}), Document("Hay.")]
    compressor = TamisCompressor(max_tokens=30, read_metadata=("speaker", "date"), **there)
    sent = _request_documents(compressor.passages(given))
    assert [one.get("metadata") for one in sent] == [{"speaker": "Ann"}, None]


def test_metadata_is_not_sent_and_need_not_be_json(there):
    given = [Document(TEXTS[1], metadata={"handle": (thing := object)})]
    (kept,) = TamisCompressor(max_tokens=30, **there).compress_documents(given, ASKED)
    assert kept.metadata["handle"] is thing


def test_scores_are_the_same_as_in_this_process(there):
    pairs = [(ASKED, text) for text in LONG] + [("Is tea brewed?", LONG[3]), (ASKED, "")]
    near = TamisCrossEncoder(**here()).score(pairs)
    assert TamisCrossEncoder(**there).score(pairs) == pytest.approx(near, abs=1e-9)
    assert asyncio.run(TamisCrossEncoder(**there).ascore(pairs)) == pytest.approx(near, abs=1e-9)


def test_nodes_are_the_same_as_in_this_process(there):
    nodes = [
        NodeWithScore(node=TextNode(text=t, id_=str(i)), score=0.5) for i, t in enumerate(LONG)
    ]
    near = TamisPostprocessor(max_tokens=60, **here()).postprocess_nodes(nodes, query_str=ASKED)
    far = TamisPostprocessor(max_tokens=60, **there).postprocess_nodes(nodes, query_str=ASKED)
    assert [node.to_dict() for node in far] == [node.to_dict() for node in near]


def test_what_the_server_refuses_is_raised(there):
    with pytest.raises(ServiceError, match="budget is 1"):
        TamisCompressor(max_tokens=1, **there).compress_documents(documents(), ASKED)
    wrong = there | {"api_key": "tms-wrong"}
    with pytest.raises(ServiceError) as refused:
        TamisCompressor(max_tokens=30, **wrong).compress_documents(documents(), ASKED)
    assert refused.value.status == 401


def test_a_server_that_is_not_there_is_named(there, caplog):
    nobody = {"base_url": "http://127.0.0.1:9", "method": "lexical"}
    named = r"127\.0\.0\.1:9 could not be reached"
    with pytest.raises(ServiceError, match=named):
        TamisCompressor(max_tokens=30, on_error="fail", **nobody).compress_documents(
            documents(), ASKED
        )
    kept = TamisCompressor(max_tokens=30, **nobody).compress_documents(documents(), ASKED)
    assert [d.page_content for d in kept] == LONG
    (warning,) = kept[0].metadata["compression"]["warnings"]
    assert re.search(named, warning)
    assert warning.split(": ", 1)[1] in caplog.text


@pytest.mark.parametrize(
    ("status", "broke_down"),
    [(None, True), (500, True), (503, True), (504, True), (429, True), (200, False), (404, False)],
)
def test_a_server_s_own_faults_are_distinguished_from_the_caller_s(status, broke_down):
    assert ServiceError("why", status).is_backend_failure == broke_down


def test_many_at_once_and_in_loop_after_loop(there):
    compressor = TamisCompressor(max_tokens=30, **there)

    async def crowd():
        asked = (compressor.acompress_documents(documents(), ASKED) for _ in range(8))
        return await asyncio.gather(*asked)

    first = compressor.compress_documents(documents(), ASKED)
    for _ in range(3):
        assert asyncio.run(crowd()) == [first] * 8


def test_a_blank_question_is_an_error_in_both_places(there):
    with pytest.raises(ServiceError, match="blank"):
        TamisCompressor(max_tokens=30, **there).compress_documents(documents(), " ")
    with pytest.raises(BadInput, match="empty"):
        TamisCompressor(max_tokens=30, **here()).compress_documents(documents(), " ")


def test_the_model_s_own_scores_come_through(url):
    """With attention, not words: the scripted reader stands behind both."""
    far = TamisCompressor(max_tokens=30, base_url=url, api_key=KEY, always_score=True)
    near = TamisCompressor(max_tokens=30, proxy=ScriptedReader.from_needles(PIN), always_score=True)
    assert far.compress_documents(documents(), ASKED) == near.compress_documents(documents(), ASKED)


def test_a_method_that_the_server_has_not_is_refused_by_all_adapters():
    with served(ScriptedReader.from_needles(PIN), methods=("question_rows",)) as running:
        fields = {"base_url": running.url, "method": "lexical"}
        for ask in (
            lambda: TamisCompressor(max_tokens=30, **fields).compress_documents(documents(), ASKED),
            lambda: TamisCrossEncoder(**fields).score([(ASKED, PIN)]),
            lambda: asyncio.run(TamisCrossEncoder(**fields).ascore([(ASKED, PIN)])),
        ):
            with pytest.raises(ServiceError, match="'lexical'") as refused:
                ask()
            assert (refused.value.status, refused.value.code) == (404, "model_not_found")
        here = TamisCrossEncoder(base_url=running.url).score([(ASKED, PIN)])
        assert TamisCrossEncoder(base_url=running.url, method="default").score([(ASKED, PIN)]) == (
            here
        )


def test_more_texts_than_the_server_takes_at_once_are_scored_each_alone():
    with served(ScriptedReader.from_needles(PIN), max_documents=4) as running:
        encoder = TamisCrossEncoder(base_url=running.url)
        texts = [f"Hay {i}. {PIN if i in (2, 9) else 'Straw.'}" for i in range(11)]
        pairs = [(ASKED, text) for text in texts] + [("Is there straw?", texts[0])]
        scores = encoder.score(pairs)
        assert asyncio.run(encoder.ascore(pairs)) == scores
        assert sorted(range(11), key=lambda i: -scores[i])[:2] in ([2, 9], [9, 2])
        with Client(running.url) as client:
            alone = [client.score(ASKED, [text]).data[0].score for text in texts]
        assert scores[:11] == pytest.approx(alone, abs=1e-9)


def test_slices_hold_no_more_than_a_request_may_and_every_text_once():
    limits = SimpleNamespace(max_documents=3, max_request_tokens=10)
    texts = ["aaaa", "aaaa", "aaaa", "", "", "", "", "a" * 50, "b"]
    parts = list(_request_slices(texts, limits))
    assert [text for part in parts for text in part] == texts
    assert [len(part) for part in parts] == [2, 3, 2, 1, 1]


@pytest.mark.parametrize("method", ["lexical", "question_rows"])
def test_a_text_without_words_scores_0_in_both_places(url, method):
    near = {"proxy": ScriptedReader.from_needles(PIN), "method": method}
    pairs = [(ASKED, PIN), (ASKED, ""), ("third?", " \n"), (ASKED, TEXTS[0])]
    for fields in (near, {"base_url": url, "api_key": KEY, "method": method}):
        scores = TamisCrossEncoder(**fields).score(pairs)
        assert scores[1:3] == [0.0, 0.0]
        assert all(0 <= score <= 1 for score in scores)
        assert scores[0] > 0


@pytest.fixture
def made_and_closed(monkeypatch):
    """The async clients that were made, and those that were closed."""
    made, closed = [], []

    class Recorded(AsyncClient):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            made.append(self)

        async def close(self):
            closed.append(self)
            await super().close()

    monkeypatch.setattr("tamis.service.integrations.remote.AsyncClient", Recorded)
    return made, closed


@pytest.fixture
def loops():
    made = [asyncio.new_event_loop() for _ in range(40)]
    yield made
    for loop in made:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def scores(backend, loop):
    plan = RankingPlan(method="lexical")
    return loop.run_until_complete(backend.arank(ASKED, LONG[:2], plan))


def test_loops_that_take_turns_have_a_connection_each(url, made_and_closed, loops):
    backend = RemoteBackend(url, KEY, 60.0)
    expected = scores(backend, loops[0])
    for _ in range(3):
        assert [scores(backend, loop) for loop in loops[:2]] == [expected] * 2
    assert [len(which) for which in made_and_closed] == [2, 0]


def test_connections_are_closed_where_their_loop_ends(url, made_and_closed):
    backend = RemoteBackend(url, KEY, 60.0)
    for _ in range(3):
        asyncio.run(backend.arank(ASKED, LONG[:2], RankingPlan(method="lexical")))
    made, closed = made_and_closed
    assert (len(made), closed) == (3, made)
    assert len(backend._loop_clients) == 1  # the next call forgets it


def test_connections_of_loops_that_stand_still_are_few(url, made_and_closed, loops):
    backend = RemoteBackend(url, KEY, 60.0)
    for loop in loops:
        scores(backend, loop)
    assert len(backend._loop_clients) == _MAX_PAUSED_LOOPS + 1
    for loop in loops:  # they close what was dropped as soon as they run
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(asyncio.sleep(0))
    made, closed = made_and_closed
    assert closed == made[: len(loops) - _MAX_PAUSED_LOOPS - 1]
