"""Stored readings of heads: one is used again only for the very same case."""

from __future__ import annotations

import torch

from tamis.probes.scripted import Scripted
from tamis.service import heads
from tests.service.test_cli_heads import answered


def test_a_reading_belongs_to_the_record_and_the_answer_it_was_made_of(tmp_path, monkeypatch):
    """What stands where is drawn by the id, what is copied is told by the answer's spans."""
    built = []

    def see(case, reader):
        built.append(case)
        return {"copy": torch.zeros(4, 2)}

    monkeypatch.setitem(heads.READINGS, "copy", (lambda record, reader, most: record, see))
    sights = heads.Sights(tmp_path, Scripted.pointing_at("Rome"), 1000)
    one = answered(1)
    shorter = {**one, "answer_spans": [[0, 25, 28]]}
    for record in (one, shorter, {**one, "id": "other"}, one, shorter):
        sights.get(record, "copy")
    assert built == [one, shorter, {**one, "id": "other"}]


def test_a_reading_of_an_earlier_recipe_is_not_used_again(tmp_path, monkeypatch):
    reader = Scripted.pointing_at("Rome")
    new = heads.Sights(tmp_path, reader, 1000).folder
    monkeypatch.setattr(heads, "_READING", heads._READING - 1)
    assert heads.Sights(tmp_path, reader, 1000).folder != new
