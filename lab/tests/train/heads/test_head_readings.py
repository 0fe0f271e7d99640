"""Kept readings of heads: one is used again only for the very same record, model and prompts."""

from __future__ import annotations

import torch

from lab.tests.bench.records import write
from lab.tests.train.commands.test_heads import answered_record
from tamis_lab.datasets.record_files import RecordFile
from tamis_lab.train.heads import head_readings
from tamis_lab.train.heads.head_readings import HeadReadings
from tamis_lab.train.heads.profiles import find_heads
from tests.scripted import ScriptedReader

SCRIPTED = ("needle", "contrast", "qr")
"""Ways of scoring whose prompts a scripted reader can read."""


def replace_copying(monkeypatch, read) -> None:
    """Lets `read(record, reader)` give the readings of copying."""
    build = lambda record, reader, most_tokens: record  # noqa: E731
    monkeypatch.setitem(head_readings.READINGS, "copy", (build, read))


def test_a_reading_belongs_to_the_record_and_the_answer_it_was_made_of(tmp_path, monkeypatch):
    """The id draws the order of the documents, the answer's spans say what is copied."""
    read_records = []

    def read(record, reader):
        read_records.append(record)
        return {"copy": torch.zeros(4, 2)}

    replace_copying(monkeypatch, read)
    readings = HeadReadings(tmp_path, ScriptedReader.from_needles("Rome"), 1000)
    one = answered_record(1)
    shorter = {**one, "answer_spans": [[0, 25, 28]]}
    others = [
        {**one, "id": "other"},
        {**one, "question": "Who lives in Rome1?"},
        {**one, "docs": one["docs"][:2]},
    ]
    for record in (one, shorter, *others, one, shorter):
        readings.get_or_read(record, "copy")
    assert read_records == [one, shorter, *others]


def test_a_reading_belongs_to_the_way_of_scoring(tmp_path):
    readings = HeadReadings(tmp_path, ScriptedReader.from_needles("Rome"), 1000)
    found = {by: set(readings.get_or_read(answered_record(1), by)) for by in SCRIPTED}
    assert found == {"needle": {"needle"}, "contrast": {"masses", "gold"}, "qr": {"qr"}}


def test_a_reading_is_kept_bit_for_bit_and_read_once(tmp_path):
    first = ScriptedReader.from_needles("Rome")
    readings = HeadReadings(tmp_path, first, 1000)
    kept = {by: readings.get_or_read(answered_record(1), by) for by in SCRIPTED}
    again = ScriptedReader.from_needles("Rome")
    later = HeadReadings(tmp_path, again, 1000)
    for by in SCRIPTED:
        build, read = head_readings.READINGS[by]
        fresh = read(build(answered_record(1), first, 1000), first)
        for name, tensor in fresh.items():
            assert torch.equal(kept[by][name], tensor)
            assert torch.equal(later.get_or_read(answered_record(1), by)[name], tensor)
    assert again.prompts_read == 0


def test_a_record_that_gives_no_reading_is_not_tried_again(tmp_path, monkeypatch):
    reads = []

    def read(record, reader):
        reads.append(1)
        return {}

    replace_copying(monkeypatch, read)
    for _ in range(2):
        readings = HeadReadings(tmp_path, ScriptedReader.from_needles("Rome"), 1000)
        assert readings.get_or_read(answered_record(1), "copy") == {}
    assert len(reads) == 1


def is_kept_for(folder, monkeypatch, reader, most_tokens) -> bool:
    """Whether a reading of record 1 by another reader, of 1,000 tokens, is used for this one."""
    reads = []

    def read(record, reader):
        reads.append(1)
        return {"copy": torch.zeros(4, 2)}

    replace_copying(monkeypatch, read)
    HeadReadings(folder, reader, most_tokens).get_or_read(answered_record(1), "copy")
    return not reads


def test_a_reading_belongs_to_the_model_and_the_length_of_its_prompts(tmp_path, monkeypatch):
    reader = ScriptedReader.from_needles("Rome")
    assert not is_kept_for(tmp_path, monkeypatch, reader, 1000)
    assert is_kept_for(tmp_path, monkeypatch, ScriptedReader.from_needles("Malo"), 1000)
    for other in ({"layers": 3}, {"name": "b"}):
        reader = ScriptedReader.from_needles("Rome", **other)
        assert not is_kept_for(tmp_path, monkeypatch, reader, 1000)
    assert not is_kept_for(tmp_path, monkeypatch, ScriptedReader.from_needles("Rome"), 500)


def test_a_reading_of_an_earlier_version_is_not_used_again(tmp_path, monkeypatch):
    reader = ScriptedReader.from_needles("Rome")
    assert not is_kept_for(tmp_path, monkeypatch, reader, 1000)
    monkeypatch.setattr(head_readings, "VERSION", head_readings.VERSION + 1)
    assert not is_kept_for(tmp_path, monkeypatch, reader, 1000)


def test_a_heads_score_is_the_mean_over_cases(tmp_path, monkeypatch):
    """Head (0, 0) has 9 in one case and 0 in two others, head (3, 1) 4 in all three."""
    values = iter([(9.0, 4.0), (0.0, 4.0), (0.0, 4.0)])

    def read(record, reader):
        scores = torch.zeros(4, 2)
        scores[0, 0], scores[3, 1] = next(values)
        return {"copy": scores}

    replace_copying(monkeypatch, read)
    file = write(tmp_path / "records.jsonl", [answered_record(i) for i in range(3)])
    reader = ScriptedReader.from_needles("Rome")
    found = find_heads(reader, "copy", [RecordFile(file)], tmp_path / "kept")
    assert (found.scores[0][0], found.scores[3][1], found.cases) == (3.0, 4.0, 3)
    assert found.best(2) == ((3, 1), (0, 0))
