"""A gate: its estimates are a regression, and its figures are those of readings in stages."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from lab.tests.bench.speed.test_documents import RECORDS
from tamis.compressors.features.gate import Gate, Stage
from tamis.compressors.features.words import WORD_FEATURES
from tamis.compressors.methods.question_rows import QuestionRows
from tamis.probes.errors import BadInput
from tamis_lab.datasets.record_files import RecordFile, records_among
from tamis_lab.datasets.records import passages_of, request_units
from tamis_lab.train.commands.gate import _parse_stages, gate_table
from tamis_lab.train.probe.gate import by_layer, fit_gate, gate_figures, read_case_in_stages
from tamis_lab.train.probe.labelled_readings import RecordReader
from tests.laws.methods import question_probe
from tests.probes import tiny
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture for every test here

W = len(WORD_FEATURES)
STAGES = [Stage(0, 0.4, 1, 1.0), Stage(1, 0.2, 1), Stage(3, 0.05, 1), Stage(4, 0.01, 1, 0.8)]


@pytest.fixture(scope="module")
def method():
    proxy = tiny.proxy()
    return QuestionRows(proxy, question_probe(proxy), rank_probe=None)


@pytest.fixture(scope="module")
def cases(method, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gate")
    path = folder / "mills.jsonl"
    path.write_text("\n".join(map(json.dumps, RECORDS)), "utf-8")
    reader = RecordReader(method, folder / "readings")
    return list(reader.read_among([RecordFile(path, 5)], 6, lambda *_: None))


def test_records_stand_among_passages_of_others(cases):
    assert len(cases) == 5
    for case in cases:
        texts = [doc["text"] for doc in case.record["docs"]]
        assert len(texts) == len(set(texts)) == 6
        assert int(case.gold.sum()) == 1


def test_a_file_with_few_passages_gives_all_it_has(tmp_path):
    path = tmp_path / "few.jsonl"
    path.write_text("\n".join(map(json.dumps, RECORDS[:3])), "utf-8")
    assert {len(r["docs"]) for r in records_among(RecordFile(path, None), 50)} == {2}


def test_features_that_follow_from_known_ones_are_estimated_exactly(method, cases):
    card = method.probe.card
    made = [replace(case, first=case.first.clone()) for case in cases]
    for case in made:
        layers = by_layer(case, card)
        layers[:, :, 2:] = 0.5 * layers[:, :, :2] + 1
    gate = Gate(fit_gate(made, card, {"units": [Stage(2, 1.0, 1)]}))
    for case in made:
        layers = by_layer(case, card)
        found = gate.complete(layers[:, :, :2], case.first[:, -W:]).view_as(layers)
        torch.testing.assert_close(found[:, :, :2], layers[:, :, :2])
        # the ridge costs a little
        torch.testing.assert_close(found[:, :, 2:], layers[:, :, 2:], atol=0.2, rtol=0)


def test_a_case_as_if_read_in_stages_is_what_is_read_in_stages(method, cases):
    gate = fit_gate(cases, method.probe.card, {"units": STAGES})
    staged = QuestionRows(
        method.reader, method.probe, rank_probe=None, gate=_named_gate(gate), cascade=True
    )
    stopped = 0
    for case in cases:
        units, passages = request_units(case.record), passages_of(case.record)
        read = staged.read(case.record["question"], passages, units)
        shown = read_case_in_stages(case, Gate(gate), STAGES, method, "units")
        assert shown.whole.tolist() == read.is_whole.tolist()
        # kept readings are rounded to half precision
        torch.testing.assert_close(shown.features, read.features, atol=2e-2, rtol=0)
        tokens = torch.tensor(case.tokens).double()
        depths = torch.tensor(read.depths or [4] * len(units)).double()
        assert shown.cost == pytest.approx(float((tokens * depths).sum() / tokens.sum() / 4))
        stopped += int((~read.is_whole).sum())
    assert stopped


def _named_gate(gate):
    return replace(gate, card=replace(gate.card, method="gate"))


def test_a_stage_that_stops_nothing_loses_nothing_and_costs_everything(method, cases):
    found = gate_figures(cases, method.probe.card, [Stage(1, 1e9, 1)], method, (0.1, 0.5))
    (cell,) = found.values()
    assert cell["lost"] == {"0.1": 0, "0.5": 0}
    assert (cell["cost"], cell["gold"], cell["questions"]) == (1, 5, 5)
    less = gate_figures(cases, method.probe.card, [Stage(1, 0.0, 1)], method, (0.5,))
    assert next(iter(less.values()))["cost"] < 1
    assert gate_table({"6": found}).row_count == 1


def test_stages_are_written_as_four_words_or_five():
    found = _parse_stages(["units:4:3.5:2:.95", "units:0:6:30", "isolated:4:2:1"])
    assert found["units"] == [Stage(0, 6, 30), Stage(4, 3.5, 2, 0.95)]
    assert found["isolated"] == [Stage(4, 2, 1)]
    for wrong in (
        "units:4",
        "documents:1:2:3",
        "units:a:1:1",
        "units:-1:1:1",
        "units:1:1:0",
        "units:1:1:1:-1",
        "units:1:1:1:1:1",
        "isolated:1:1:1:1",
    ):
        with pytest.raises(BadInput, match="--stage is"):
            _parse_stages([wrong])
