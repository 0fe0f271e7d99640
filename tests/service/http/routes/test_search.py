"""`POST /v1/search` over an index that is written to while it is served."""

from __future__ import annotations

import time

import pytest

from tamis.probes.errors import BadInput
from tamis.retrieval.index.store import CorpusIndex
from tamis.retrieval.index.writer import create_index, open_writer
from tamis.service.api.index import IndexPool, index_settings, load_readers
from tamis.text.types import CorpusDocument
from tests.retrieval.index.corpora import BREAD, HARBOUR, build_index, put
from tests.service.cli.cli_kit import tamis as run
from tests.service.http.app_kit import served


def test_a_search_sees_what_was_committed_before_it(tmp_path):
    home = tmp_path / "i"
    build_index(home, [HARBOUR])
    with served(indexes=(f"docs={home}",)) as service:

        def docs(query):
            answer = service.post("/v1/search", question=query)
            assert answer.status_code == 200, answer.text
            return [hit["document"] for hit in answer.json()["data"]]

        assert docs("cherry") == []
        put(home, CorpusDocument("cake", "Cherry cake."))
        assert docs("cherry") == ["cake"]
        with open_writer(home) as writer:
            writer.compact()
        assert set(docs("cherry harbour")) == {"harbour", "cake"}
        (home / "manifest.json").write_text("{}")
        assert docs("cherry") == ["cake"]


@pytest.mark.parametrize("number", [10**400, -(10**400)])
def test_a_number_of_any_size_is_compared(tmp_path, number):
    build_index(tmp_path / "i", [HARBOUR])
    with served(indexes=(f"docs={tmp_path / 'i'}",)) as service:
        answer = service.post("/v1/search", question="harbour", where={"year": {"<": number}})
        assert answer.status_code == 200, answer.text
        assert len(answer.json()["data"]) == (number > 0)


def test_a_condition_is_refused_alike_over_http_in_the_library_and_on_the_command_line(tmp_path):
    """Spaces once held the whole process: 600 of them 3 s, 10,000 some hours."""
    index = build_index(tmp_path / "i", [HARBOUR])
    with served(indexes=(f"docs={tmp_path / 'i'}",)) as service:
        for where in (" " * 10_001, [" " * 10_000], "year", "year>3<5"):
            with pytest.raises(BadInput) as caught:
                index.search("harbour", where=where)
            began = time.monotonic()
            answer = service.post("/v1/search", question="harbour", where=where)
            assert time.monotonic() - began < 5
            assert answer.status_code == 422
            assert answer.json()["error"]["message"] == str(caught.value)
            (condition,) = [where] if isinstance(where, str) else where
            said = run(
                "index", "search", str(tmp_path / "i"), "-q", "harbour", "--where", condition
            )
            assert said.exit_code == 2
            assert "".join(str(caught.value).split()) in "".join(said.output.split())
        schema = service.http.get("/openapi.json").json()["components"]["schemas"]["SearchRequest"]
        texts = [one for one in schema["properties"]["where"]["anyOf"] if one["type"] == "string"]
        assert texts == [{"type": "string", "maxLength": 10_000}]


@pytest.mark.parametrize(
    "where",
    [
        lambda n: {"id": [f"d{i}" for i in range(n - 1)], "year": 2000},
        lambda n: {"id": {"=": ["harbour"] * (n - 1), "!=": ["d"]}},
        lambda n: ["id=harbour,d"] * (n // 2),
    ],
    ids=["mapping", "signs", "texts"],
)
def test_values_have_a_most_and_its_error_says_the_way_out(tmp_path, where):
    build_index(tmp_path / "i", [HARBOUR])
    with served(indexes=(f"docs={tmp_path / 'i'}",)) as service:
        answer = service.post("/v1/search", question="harbour", where=where(10_000))
        assert answer.status_code == 200, answer.text
        answer = service.post("/v1/search", question="harbour", where=where(10_002))
        assert answer.status_code == 422
        error = answer.json()["error"]
        assert error["param"] == "where"
        assert "10,002 values, and 10,000 is the most" in error["message"]
        assert "many of these documents share" in error["message"]


def test_a_search_is_chosen_and_says_how_many_keys_it_read(tmp_path):
    build_index(tmp_path / "i", [HARBOUR])
    with served(indexes=(f"docs={tmp_path / 'i'}",)) as service:
        answer = service.post("/v1/search", question="harbour", search="exact")
        assert (answer.status_code, answer.json()["keys_read"]) == (200, 0)
        refused = service.post("/v1/search", question="harbour", search="graph")
        assert refused.status_code == 422, refused.text
        assert "is a search of keys" in refused.text
        assert service.post("/v1/search", question="harbour", search="annoy").status_code == 422


def test_a_ranking_by_kept_keys_and_values_needs_an_index_that_keeps_them(tmp_path):
    build_index(tmp_path / "i", [HARBOUR])
    with served(indexes=(f"docs={tmp_path / 'i'}",)) as service:
        for more, why in (
            ({"read": "retrieved"}, "keeps no keys and values as smollm2-135m-sharp reads them"),
            ({"keys": 5}, "selector and keys are of read='retrieved'"),
            ({"read": "retrieved", "selector": "quest"}, "say how many, by keys"),
            ({"read": "all"}, "read"),
        ):
            refused = service.post("/v1/search", query="harbour", **more)
            assert refused.status_code == 422, refused.text
            assert why in refused.json()["error"]["message"]


@pytest.mark.model
@pytest.mark.usefixtures("proxy_folder")
def test_passages_are_ranked_by_how_the_query_attends_to_what_is_kept(tmp_path):
    settings = index_settings(model=False, keep_kv=True)
    with create_index(tmp_path / "i", settings, load_readers(settings)) as writer:
        writer.put([HARBOUR, BREAD])
        writer.finish()
    with served(indexes=(f"docs={tmp_path / 'i'}",)) as service:
        for more in ({}, {"selector": "exact"}, {"selector": "exact", "keys": 64}):
            query = "When was the harbour closed, and what of bread?"
            answer = service.post("/v1/search", query=query, read="retrieved", **more)
            assert answer.status_code == 200, answer.text
            hits = answer.json()["data"]
            assert {hit["document"] for hit in hits} == {"harbour", "bread"}
            assert hits[0]["score"] > hits[1]["score"]


def test_a_state_is_closed_when_its_last_search_ends(tmp_path, monkeypatch):
    closed = []
    monkeypatch.setattr(CorpusIndex, "close", lambda index: closed.append(index))
    first = build_index(tmp_path / "i", [HARBOUR])
    pool = IndexPool(first)
    with pool._borrow_newest() as one:
        put(tmp_path / "i", BREAD)
        assert pool.search("bread")[0].doc == "bread"
        assert closed == []
        assert one.search("harbour")
    assert closed == [first]
    assert pool.search("bread")
    assert closed == [first]
