"""Stored readings of heads: one is used again only for the very same case."""

from __future__ import annotations

import torch

from tamis.probes.scripted import ScriptedReader
from tamis.service.datasets.record_files import RecordFile
from tamis.service.training.heads import profiles
from tests.service.cli.probe.test_heads import answered
from tests.service.evaluation.records import write


def test_a_reading_belongs_to_the_record_and_the_answer_it_was_made_of(tmp_path, monkeypatch):
    """What stands where is drawn by the id, what is copied is told by the answer's spans."""
    built = []

    def see(case, reader):
        built.append(case)
        return {"copy": torch.zeros(4, 2)}

    monkeypatch.setitem(profiles.READINGS, "copy", (lambda record, reader, most: record, see))
    sights = profiles.Sights(tmp_path, ScriptedReader.pointing_at("Rome"), 1000)
    one = answered(1)
    shorter = {**one, "answer_spans": [[0, 25, 28]]}
    others = [
        {**one, "id": "other"},
        {**one, "question": "Who lives in Rome1?"},
        {**one, "docs": one["docs"][:2]},
    ]
    for record in (one, shorter, *others, one, shorter):
        sights.get(record, "copy")
    assert built == [one, shorter, *others]


def test_a_reading_belongs_to_the_model_and_the_length_of_its_prompts(tmp_path):
    reader = ScriptedReader.pointing_at("Rome")
    folder = profiles.Sights(tmp_path, reader, 1000).folder
    assert profiles.Sights(tmp_path, ScriptedReader.pointing_at("Malo"), 1000).folder == folder
    assert (
        profiles.Sights(tmp_path, ScriptedReader.pointing_at("Rome", layers=3), 1000).folder
        != folder
    )
    assert (
        profiles.Sights(tmp_path, ScriptedReader.pointing_at("Rome", name="b"), 1000).folder
        != folder
    )
    assert profiles.Sights(tmp_path, reader, 500).folder != folder


def test_a_heads_score_is_the_mean_over_cases(tmp_path, monkeypatch):
    """Head (0, 0) has 9 in one case and 0 in two others, head (3, 1) 4 in all three."""
    seen = iter([(9.0, 4.0), (0.0, 4.0), (0.0, 4.0)])

    def see(case, reader):
        scores = torch.zeros(4, 2)
        scores[0, 0], scores[3, 1] = next(seen)
        return {"copy": scores}

    monkeypatch.setitem(profiles.READINGS, "copy", (lambda record, reader, most: record, see))
    file = write(tmp_path / "records.jsonl", [answered(i) for i in range(3)])
    found = profiles.find_heads(
        ScriptedReader.pointing_at("Rome"), "copy", [RecordFile(file)], tmp_path / "kept"
    )
    assert (found.scores[0][0], found.scores[3][1], found.cases) == (3.0, 4.0, 3)
    assert found.best(2) == ((3, 1), (0, 0))


def test_a_reading_of_an_earlier_recipe_is_not_used_again(tmp_path, monkeypatch):
    reader = ScriptedReader.pointing_at("Rome")
    new = profiles.Sights(tmp_path, reader, 1000).folder
    monkeypatch.setattr(profiles, "_READING", profiles._READING - 1)
    assert profiles.Sights(tmp_path, reader, 1000).folder != new
