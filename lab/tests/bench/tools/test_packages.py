"""A package behind an adapter: its text, its markers, its faults, and what it lacks to run here."""

from __future__ import annotations

import shutil

import pytest

from lab.tests.bench.tools.test_compressors import labelled
from tamis.probes.errors import BadInput
from tamis_lab.bench.peer_process import PEERS_FOLDER
from tamis_lab.bench.tools import TOOL_PEERS_FOLDER, installed_packages, package_compressor
from tests.environments import ROOT

ADAPTER = """
from protocol import serve

def load(settings):
    def keep(case):
        if case["budget_tokens"] < 5:
            raise ValueError("too few")
        return "\\n".join([case["name"], case["question"], "[cut]"])
    return keep

serve(load, "tokenizers")
"""


@pytest.fixture
def folder(tmp_path):
    """Two peers: one that runs in this environment, and one whose environment is missing."""
    home = tmp_path / "peers"
    home.mkdir()
    shutil.copytree(PEERS_FOLDER / "adapters", home / "adapters")
    (home / "adapters/echo.py").write_text(ADAPTER, "utf-8")
    (home / "peers.toml").write_text(
        'environments = "none"\nmake = "make it"\nreference = "echo"\n'
        '[peers.echo]\nadapter = "echo.py"\noptions = { markers = "^.cut.$" }\n'
        '[peers.far]\nadapter = "far.py"\nenvironment = "far"\n',
        "utf-8",
    )
    return home


def test_a_package_is_asked_with_the_call_and_its_faults_are_rows(folder, tmp_path):
    registry, (peer,), lacks = installed_packages(folder)
    assert lacks == ["far has no environment here: make it far"]
    package = package_compressor(registry, peer, tmp_path / "log")
    with package.process:
        good, bad = package.shorten(labelled(), [9, 3])
    assert good.text.split("\n") == ["bash", "Which pump runs backwards?", "[cut]"]
    assert (good.is_marker("[cut]"), good.is_marker("cut")) == (True, False)
    assert (good.error, bad.error, bad.text) == (None, "ValueError: too few", "")


def test_a_peer_without_an_adapter_is_refused(folder, tmp_path):
    registry, _, _ = installed_packages(folder)
    with pytest.raises(BadInput, match="there is no adapter"):
        package_compressor(registry, registry.peers["far"], tmp_path / "log")


def test_every_peer_that_is_listed_has_an_adapter_and_an_environment_that_can_be_made():
    registry, _, _ = installed_packages(TOOL_PEERS_FOLDER)
    for peer in registry.peers.values():
        assert peer.adapter.is_file()
        assert (PEERS_FOLDER / f"{peer.environment}.txt").is_file()
    assert registry.environments.resolve() == (ROOT / ".venv/peers").resolve()
