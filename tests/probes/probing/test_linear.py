"""Probes on disk: what was saved comes back, and nothing else is believed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tamis.probes.card import ModelCard
from tamis.probes.errors import BadInput, BadModelFile, ProbeMismatch
from tamis.probes.probing.linear import FORMAT, LinearProbe, ProbeCard

CARD = ProbeCard(
    "sentinel", "m", "r1", "plain", 3, 2, ("last", "question"), ({"name": "é"},), {"auc": 0.9}
)
WEIGHTS = {"head": torch.arange(6.0), "bias": torch.tensor([-1.5])}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "deep" / "sentinel.m.safetensors"
    LinearProbe(WEIGHTS, CARD).save(path)
    return path


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Rewrites the card beside a probe."""
    card = path.with_suffix(".json")
    facts = json.loads(card.read_text("utf-8"))
    card.write_text(json.dumps(change(facts) or facts), "utf-8")


def test_what_was_saved_comes_back(saved: Path):
    probe = LinearProbe.load(saved)
    assert {name: w.tolist() for name, w in probe.weights.items()} == {
        name: w.tolist() for name, w in WEIGHTS.items()
    }
    assert replace(probe.card, weights_sha256="") == CARD
    assert len(probe.card.weights_sha256) == 64


def test_what_was_loaded_saves_to_the_same_bytes(saved: Path, tmp_path: Path):
    again = tmp_path / "again.safetensors"
    LinearProbe.load(saved).save(again)
    for suffix in (".safetensors", ".json"):
        assert again.with_suffix(suffix).read_bytes() == saved.with_suffix(suffix).read_bytes()


def test_weights_are_stored_in_fp32_whatever_their_dtype(tmp_path: Path):
    path = tmp_path / "p.safetensors"
    LinearProbe({"head": torch.ones(4, 4, dtype=torch.float64).t()[::2]}, CARD).save(path)
    assert LinearProbe.load(path).weight("head", (2, 4)).dtype == torch.float32


@pytest.mark.parametrize("kept_bytes", [0, 7, 60])
def test_a_torn_file_is_refused(saved: Path, kept_bytes: int):
    saved.write_bytes(saved.read_bytes()[:kept_bytes])
    with pytest.raises(BadModelFile, match="cannot be read"):
        LinearProbe.load(saved)


@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
def test_a_missing_half_is_refused(saved: Path, suffix: str):
    saved.with_suffix(suffix).unlink()
    with pytest.raises(BadModelFile, match=f"{suffix} cannot be read"):
        LinearProbe.load(saved)


def test_the_card_of_another_probe_is_refused(saved: Path, tmp_path: Path):
    other = tmp_path / "other.safetensors"
    LinearProbe(WEIGHTS | {"bias": torch.tensor([-1.25])}, CARD).save(other)
    saved.with_suffix(".json").write_bytes(other.with_suffix(".json").read_bytes())
    with pytest.raises(BadModelFile, match="does not belong to its card"):
        LinearProbe.load(saved)


def test_a_single_flipped_bit_is_refused(saved: Path):
    data = bytearray(saved.read_bytes())
    data[-1] ^= 1
    saved.write_bytes(data)
    with pytest.raises(BadModelFile, match="hashes differ"):
        LinearProbe.load(saved)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float):
    path = tmp_path / "p.safetensors"
    LinearProbe(WEIGHTS | {"bias": torch.tensor([value])}, CARD).save(path)
    with pytest.raises(BadModelFile, match="not finite"):
        LinearProbe.load(path)


@pytest.mark.parametrize("name", sorted(asdict(CARD)))
def test_a_card_with_a_missing_field_is_refused_by_name(saved: Path, name: str):
    edit(saved, lambda facts: {k: v for k, v in facts.items() if k != name})
    with pytest.raises(BadModelFile, match=name):
        LinearProbe.load(saved)


def test_a_card_with_an_unknown_field_is_refused_by_name(saved: Path):
    edit(saved, lambda facts: facts | {"scaling": 2})
    with pytest.raises(BadModelFile, match="scaling"):
        LinearProbe.load(saved)


def test_a_card_of_another_format_is_refused(saved: Path):
    edit(saved, lambda facts: facts | {"format": FORMAT + 1})
    with pytest.raises(BadModelFile, match=f"format {FORMAT + 1}; this version reads {FORMAT}"):
        LinearProbe.load(saved)


@pytest.mark.parametrize("content", [b"[]", b"3", b"", b"{", b"\xff\xfe"])
def test_a_card_that_is_no_card_is_refused(saved: Path, content: bytes):
    saved.with_suffix(".json").write_bytes(content)
    with pytest.raises(BadModelFile, match="card"):
        LinearProbe.load(saved)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rows": 3},
        {"rows": "last"},
        {"trained_on": None},
        {"layers": "3"},
        {"layers": 0},
        {"heads": True},
        {"heads": -2},
        {"model": 7},
        {"figures": []},
    ],
    ids=str,
)
def test_a_card_whose_facts_are_of_another_kind_is_refused(saved: Path, wrong: dict[str, Any]):
    edit(saved, lambda facts: facts | wrong)
    with pytest.raises(BadModelFile, match=next(iter(wrong))):
        LinearProbe.load(saved)


def test_a_weight_of_another_shape_is_an_error():
    probe = LinearProbe(WEIGHTS, CARD)
    assert probe.weight("head", (6,)) is WEIGHTS["head"]
    with pytest.raises(BadModelFile, match=r"'head' is of shape \(6,\); \(3, 2\) is needed"):
        probe.weight("head", (3, 2))
    with pytest.raises(BadModelFile, match="'first' is missing"):
        probe.weight("first", (6,))


def test_a_probe_fits_its_own_model_whatever_the_depth_it_reads():
    LinearProbe(WEIGHTS, CARD).check(ModelCard("m", "r1", 30, 2), "plain")


@pytest.mark.parametrize(
    ("model", "template"),
    [
        (ModelCard("other", "r1", 3, 2), "plain"),
        (ModelCard("m", "r2", 3, 2), "plain"),
        (ModelCard("m", "r1", 3, 2), "chatml"),
    ],
)
def test_a_probe_of_another_model_is_refused_and_both_are_named(model: ModelCard, template: str):
    with pytest.raises(ProbeMismatch) as refused:
        LinearProbe(WEIGHTS, CARD).check(model, template)
    for side in ("m at r1 and template plain", f"{model.name} at {model.revision}", template):
        assert side in str(refused.value)
    assert "tamis lab probe train" in str(refused.value)
    assert isinstance(refused.value, BadInput)


def test_a_file_of_weights_alone_is_refused(tmp_path: Path):
    save_file(WEIGHTS, tmp_path / "p.safetensors")
    with pytest.raises(BadModelFile, match=r"p\.json"):
        LinearProbe.load(tmp_path / "p.safetensors")
