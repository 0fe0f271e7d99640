"""Focus directions: the mass on gold is that of full attention, and fitting raises it."""

from __future__ import annotations

import pytest
import torch

from lab.tests.bench.records import doc, record, write
from lab.tests.methods.window_attention import kit
from tamis.probes.errors import BadInput
from tamis_lab.train.heads.focus import fit_directions, gold_mass, gold_windows
from tests.service.cli.cli_kit import tamis

HEADS = [(0, 1), (1, 2), (1, 3)]


def records(count=4):
    return [
        record(f"r{i}", "Who ran?", doc("It rains.", f"Al{i} ran.", gold=[1]), doc("Bo sat."))
        for i in range(count)
    ]


@pytest.mark.parametrize("seed", kit.SEEDS)
def test_without_directions_the_mass_on_gold_is_that_of_full_attention(seed):
    made = kit.proxy(seed)
    (window,) = gold_windows(made, records()[0], HEADS)  # the other document has no gold
    asked = made.layout.question_tokens("Who ran?")
    text = made.layout.tokenizer.encode(records()[0]["docs"][0]["text"]).ids
    ids = [*made.layout.opening, *text, *asked.ids]
    full = kit.full_attention(made, ids).weights
    start = len(made.layout.opening) + len("It rains. ")
    gold = slice(start, start + len("Al0 ran."))
    rows = slice(len(ids) - len(asked.ids) + asked.first_row, len(ids))
    due = torch.stack([full[layer, head, rows, gold].sum(-1).mean() for layer, head in HEADS])
    ours = gold_mass(made.body, window, HEADS, torch.zeros(3, kit.SIZE))
    torch.testing.assert_close(ours, due.mean(), atol=2e-5, rtol=1e-3)


def test_fitting_raises_the_mass_on_gold_and_a_random_direction_of_its_length_does_not():
    made = kit.proxy(1)
    found, masses = fit_directions(made, records(), HEADS, lambda *_: None)
    assert masses[-1] > masses[0] + 0.05
    assert found.shape == (kit.LAYERS, kit.HEADS, kit.SIZE)
    chosen = torch.stack([found[at] for at in HEADS])
    assert found.abs().sum() == pytest.approx(float(chosen.abs().sum()))
    windows = [w for r in records() for w in gold_windows(made, r, HEADS)]
    draw = torch.Generator().manual_seed(0)
    others = torch.randn(chosen.shape, generator=draw)
    others = others / others.norm(dim=1, keepdim=True) * chosen.norm(dim=1, keepdim=True)
    random = torch.stack([gold_mass(made.body, w, HEADS, others) for w in windows]).mean()
    assert float(random) < masses[-1] - 0.05


def test_records_without_gold_are_refused():
    with pytest.raises(BadInput, match="no record has a gold sentence"):
        fit_directions(kit.proxy(), [record("r", "Who?", doc("Ann."))], HEADS, lambda *_: None)


def test_the_command_writes_directions_that_the_reading_takes(tmp_path, monkeypatch):
    from tamis.compressors import registry
    from tamis.probes.probing.heads import HeadProfile
    from tamis_lab.methods.readings import focus

    monkeypatch.setattr(registry, "load_proxy", lambda *_: kit.proxy())
    card = kit.proxy().card
    scores = ((0.1, 0.9, 0.0, 0.0), (0.0, 0.0, 0.8, 0.7))
    HeadProfile(card.name, card.revision, "short", 2, 4, "echo", scores).save(tmp_path / "h.json")
    data = write(tmp_path / "records.jsonl", records())
    out = tmp_path / "d.safetensors"
    words = ("lab", "heads", "focus", tmp_path / "h.json", "--data", data, "--out", out, "--k", 3)
    done = tamis(*words)
    assert done.exit_code == 0, done.output
    assert "mass on gold" in done.stdout
    assert focus.Reading(kit.proxy(), directions=out).directions.abs().sum(
        -1
    ).nonzero().tolist() == [list(head) for head in HEADS]
