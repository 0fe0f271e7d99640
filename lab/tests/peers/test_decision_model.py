"""A decision model behind a URL takes part in the comparison of peers."""

from __future__ import annotations

import json

import pytest

from lab.tests.methods.decision_kit import decision_server
from lab.tests.peers.kit import people_folder, study_of
from tamis.probes.tokens import TextTokenizer
from tamis_lab.bench.peer_process import PEERS_FOLDER, PeerRegistry
from tamis_lab.bench.peers import PeerRunSettings, load_peer_cases, run_peers


@pytest.mark.model
def test_the_peer_asks_the_address_in_its_folder_and_keeps_to_the_budget(tmp_path, proxy_folder):
    counter = TextTokenizer.from_file(proxy_folder / "tokenizer.json")
    registry = PeerRegistry.load(PEERS_FOLDER)
    (peer,) = registry.select(["systemone"])
    assert registry.missing_requirement(peer, {}) is not None
    cases = load_peer_cases("people", people_folder(tmp_path), 2, 0.4, counter)
    folder = tmp_path / "decisions"
    folder.mkdir()
    with decision_server() as model:
        address = {"url": model.url, "model": "laya"}
        (folder / "systemone.json").write_text(json.dumps(address))
        given = {"systemone": folder}
        settings = PeerRunSettings("smollm2-135m", proxy_folder, given, 1, 120, tmp_path)
        rows = run_peers(cases, [peer], registry, settings, study_of(tmp_path), counter)
    assert [row.get("error") for row in rows] == [None, None]
    assert {body["model"] for body in model.bodies} == {"laya"}
    for case, row in zip(cases, rows, strict=True):
        assert 0 < counter.count(row["text"]) <= case.request["budget_tokens"]
