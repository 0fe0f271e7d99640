"""Real processes of peers: what they keep, how they fail, and how a run is resumed."""

from __future__ import annotations

import pytest

from lab.tests.peers.kit import (
    counter,
    faulty_registry,
    people_cases,
    people_folder,
    run_settings,
    study_of,
)
from tamis import compress
from tamis.probes.tokens import TextTokenizer
from tamis_lab.bench.peer_process import PEERS_FOLDER, PeerFailed, PeerRegistry
from tamis_lab.bench.peers import PeerRunSettings, load_peer_cases, row_key, run_peers


def rows_of(folder, registry, names, cases=None, timeout_s=60.0, **settings):
    peers = registry.select(names)
    return run_peers(
        cases or people_cases(folder),
        peers,
        registry,
        run_settings(folder, timeout_s),
        study_of(folder, **settings),
        counter(folder),
    )


def test_truncation_keeps_the_first_tokens_and_no_peer_exceeds_the_budget(tmp_path):
    cases = people_cases(tmp_path)
    rows = rows_of(
        tmp_path, PeerRegistry.load(PEERS_FOLDER), ["truncation", "bm25", "tamis_lexical"], cases
    )
    assert len(rows) == 9
    assert [row for row in rows if "error" in row] == []
    contexts = {case.id: case.request["context"] for case in cases}
    for row in rows:
        assert row["tokens_out"] <= row["budget_tokens"]
        assert row["ms"] > 0
        assert 10 < row["peak_mib"] < 4000
        if row["peer"] == "truncation":
            assert contexts[row["case"]].startswith(row["text"])
            assert row["text"].split() == contexts[row["case"]].split()[: row["budget_tokens"]]
        else:  # the sentence with the question's words
            assert row["evidence"] == 1.0


def test_peers_take_turns_and_each_case_begins_with_another(tmp_path):
    rows = rows_of(tmp_path, PeerRegistry.load(PEERS_FOLDER), ["truncation", "bm25"])
    assert [row["peer"] for row in rows] == [
        *("truncation", "bm25"),
        *("bm25", "truncation"),
        *("truncation", "bm25"),
    ]


@pytest.mark.parametrize(
    ("fault", "message"), [("raise", "a word of mine"), ("hang", "within 1 s")]
)
def test_a_peer_that_fails_has_its_error_in_every_row(tmp_path, fault, message):
    rows = rows_of(
        tmp_path,
        faulty_registry(tmp_path, fault),
        ["odd", "truncation"],
        timeout_s=1.0 + 9 * (fault == "raise"),
    )
    by_peer = {name: [row for row in rows if row["peer"] == name] for name in ("odd", "truncation")}
    assert [message in row["error"] for row in by_peer["odd"]] == [True] * 3
    assert all("error" not in row for row in by_peer["truncation"])


def test_a_process_that_dies_is_started_again_for_the_next_case(tmp_path):
    registry = faulty_registry(tmp_path, "die")
    (case, *others) = people_cases(tmp_path)
    # it dies once, in the untimed call before the first case, and comes back for the timed one
    rows = rows_of(tmp_path, registry, ["odd"], [case, *others])
    assert [row.get("error") for row in rows] == [None] * 3
    assert all(
        row["text"] == c.request["context"] for row, c in zip(rows, [case, *others], strict=True)
    )


def test_a_peer_that_does_not_load_ends_the_run_with_its_own_message(tmp_path):
    with pytest.raises(PeerFailed, match=r"odd\.py failed: .*code 1 \(.*no such model here"):
        rows_of(tmp_path, faulty_registry(tmp_path, "not load"), ["odd"])


def test_a_run_is_resumed_where_it_ended(tmp_path):
    registry, cases = PeerRegistry.load(PEERS_FOLDER), people_cases(tmp_path)
    names, path = ["truncation", "bm25"], tmp_path / "rows.jsonl"
    rows_of(tmp_path, registry, names, cases[:2])
    before = "".join(path.read_text().splitlines(keepends=True)[:3])
    path.write_text(before)
    rows = rows_of(tmp_path, registry, names)
    text = path.read_text()
    assert text.startswith(before)
    assert len(text.splitlines()) == len(rows) == 6
    assert {row["key"] for row in rows} == {
        row_key(c, p) for c in cases for p in registry.select(names)
    }
    assert rows_of(tmp_path, registry, names) == rows
    assert path.read_text() == text


def test_the_key_of_a_row_depends_on_the_request(tmp_path):
    (peer,) = PeerRegistry.load(PEERS_FOLDER).select(["bm25"])
    names = {row_key(people_cases(tmp_path, 1, budget)[0], peer) for budget in (0.25, 0.3)}
    assert len(names) == 2


@pytest.mark.model
def test_tamis_with_passages_cached_keeps_what_a_direct_call_keeps(tmp_path, proxy_folder):
    tokenizer = TextTokenizer.from_file(proxy_folder / "tokenizer.json")
    cases = load_peer_cases("people", people_folder(tmp_path), 1, 0.25, tokenizer)
    registry = PeerRegistry.load(PEERS_FOLDER)
    peer_settings = PeerRunSettings("smollm2-135m", proxy_folder, {}, 1, 120, tmp_path)
    (warm,) = run_peers(
        cases,
        registry.select(["tamis_warm"]),
        registry,
        peer_settings,
        study_of(tmp_path),
        tokenizer,
    )
    passages = [{"text": doc["text"], "title": doc["title"]} for doc in cases[0].request["docs"]]
    direct = compress(
        cases[0].request["question"],
        passages,
        max_tokens=cases[0].budget_tokens,
        proxy="smollm2-135m",
    )
    assert (warm["text"], warm["evidence"]) == (direct.text, 1.0)


def test_a_run_with_no_time_left_starts_no_case(tmp_path):
    registry, cases = PeerRegistry.load(PEERS_FOLDER), people_cases(tmp_path)
    peers = registry.select(["truncation"])
    peer_settings, tokenizer = run_settings(tmp_path), counter(tmp_path)
    for minutes, rows in ((0, 0), (9, 3)):
        study = study_of(tmp_path)
        found = run_peers(cases, peers, registry, peer_settings, study, tokenizer, minutes)
        assert len(found) == rows
