"""Unchanged packages that shorten tool outputs, in the environments of `environments.py`."""

from __future__ import annotations

import pytest

from tamis_lab.bench.tools import (
    OUTPUTS_FOLDER,
    TOOL_PEERS_FOLDER,
    find_kinds,
    installed_packages,
    load_outputs,
    package_compressor,
)

LOGS = load_outputs(find_kinds(OUTPUTS_FOLDER)["applogs"], "applogs")


@pytest.mark.parametrize("name", ["headroom", "cendor"])
def test_a_package_shortens_a_log_and_answers_again(tmp_path, name):
    registry, ready, lacks = installed_packages(TOOL_PEERS_FOLDER)
    assert lacks == []
    (peer,) = (peer for peer in ready if peer.name == name)
    package = package_compressor(registry, peer, tmp_path / "log")
    with package.process:
        found = [shown for row in LOGS[4:8] for shown in package.shorten(row, [400, 900])]
    assert [shown.error for shown in found] == [None] * 8
    assert all(shown.text.strip() and shown.ms > 0 for shown in found)
    assert any(len(shown.text) < len(LOGS[4].text) / 2 for shown in found)
