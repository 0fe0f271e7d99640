"""Fitting a probe: articles that judge are never learnt from, and what is written can be used."""

from __future__ import annotations

import pytest
import torch

from lab.tests.bench.records import doc, record, write
from lab.tests.train.lora.examples import PLACES, example_records
from tamis.compressors.features.second_step import RequestTexts
from tamis.compressors.methods.question_rows import QuestionRows
from tamis.compressors.methods.sentinel import Sentinel
from tamis.probes.errors import BadInput
from tamis.probes.probing.linear import LinearProbe
from tamis.text.units.segment import units_of
from tamis_lab.datasets.record_files import FOLDS, RecordFile, answerable_records, fold_of
from tamis_lab.datasets.records import passages_of, request_units
from tamis_lab.train.fit import LabelledFeatures
from tamis_lab.train.probe import fitting
from tamis_lab.train.probe.figures import case_probabilities, evidence_kept, probe_figures
from tamis_lab.train.probe.fitting import recalibrate, train_probe
from tamis_lab.train.probe.labelled_readings import LabelledReading
from tamis_lab.train.probe.sentinel import train_sentinel
from tests.probes import tiny
from tests.probes.tiny import one_thread  # noqa: F401

LAYERS = 2
CALIBRATED_ON_HELD_OUT = {"lowest", "alone_lowest"}


def quiet(name: str, done: int, total: int) -> None:
    """Takes reports of progress."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("training")


@pytest.fixture(scope="module")
def source(place):
    return RecordFile(write(place / "records.jsonl", example_records()))


@pytest.fixture(scope="module")
def trained(source, place):
    """A tiny proxy, its probe, and the cases that the probe was fitted and judged on."""
    proxy = tiny.proxy()
    return proxy, *train_probe(proxy, [source], place / "readings", LAYERS, quiet)


def test_a_probe_that_was_fitted_is_saved_loaded_accepted_and_finds_gold(trained, place):
    proxy, probe, _ = trained
    probe.save(place / "probe.safetensors")
    method = QuestionRows(proxy, place / "probe.safetensors")
    assert method.layers == LAYERS
    hits = 0
    for row in example_records():
        passages, units = passages_of(row), request_units(row)
        found = method.scores(row["question"], passages, units)
        assert found.calibrated
        hits += found.values.index(max(found.values)) == 1
    assert hits >= 0.9 * len(example_records())


def test_an_isolated_reading_accepts_the_probe_too(trained):
    proxy, probe, _ = trained
    row = example_records()[0]
    passages = passages_of(row)
    scores = QuestionRows(proxy, probe, isolated=True).scores("When?", passages, units_of(passages))
    assert scores.calibrated


def test_the_card_says_what_it_is_for_and_what_it_was_fitted_on(trained):
    proxy, probe, cases = trained
    card = probe.card
    assert (card.method, card.model, card.layers) == ("question_rows", "tiny-llama", LAYERS)
    assert (card.revision, card.template) == (proxy.card.revision, "chatml")
    (used,) = card.trained_on
    assert (used["name"], used["questions"]) == ("records", len(cases))
    assert len(used["sha256"]) == 64


def test_figures_come_from_the_first_fold_and_the_fit_from_the_others(trained):
    _, probe, cases = trained
    held = [case for case in cases if case.fold == 0]
    figures = probe.card.figures
    assert 0 < len(held) < len(cases) == len(example_records())
    assert figures["held_out"]["questions"] == len(held)
    assert figures["held_out"]["units"] == sum(len(case.gold) for case in held)
    assert figures["fitted"] == len(cases) - len(held)
    assert figures["held_out"] == probe_figures(probe, held)


def test_what_is_held_out_cannot_change_a_weight(trained, place):
    proxy, probe, _ = trained
    rows = example_records()
    for row in rows:
        if fold_of(row) == 0:
            row["docs"][0]["gold"] = [0]
    other = RecordFile(write(place / "other.jsonl", rows))
    again, _ = train_probe(proxy, [other], place / "readings", LAYERS, quiet)
    for name in probe.weights.keys() - CALIBRATED_ON_HELD_OUT:
        torch.testing.assert_close(again.weights[name], probe.weights[name])
    assert again.card.figures["held_out"] != probe.card.figures["held_out"]


SPELT = ("New_York", "new york")


def test_all_questions_on_one_article_fall_into_one_fold():
    folds = {}
    for row in example_records():
        folds.setdefault(row["docs"][0]["title"], set()).add(fold_of(row))
    assert set(folds) == set(PLACES)
    assert all(len(fold) == 1 for fold in folds.values())
    assert len(set.union(*folds.values())) == FOLDS
    one, other = (record(str(i), "Q?", doc("A.", gold=[0], title=t)) for i, t in enumerate(SPELT))
    assert fold_of(one) == fold_of(other)


def test_a_score_out_of_fold_is_by_weights_that_never_saw_the_article(trained):
    """Each fit is told from the others by its bias: the folds that it saw, as a set of bits."""
    _, _, cases = trained
    fitted = [case for case in cases if case.fold]
    questions = [
        LabelledFeatures(torch.full((len(case.gold), 1), float(case.fold)), case.gold)
        for case in fitted
    ]

    def fit(seen, l2):
        folds = {int(q.features[0, 0]) for q in seen}
        return torch.zeros(1), float(sum(2**fold for fold in folds))

    _, scores = fitting._fit_out_of_fold(fitted, questions, fit, 0.0)
    for case, score in zip(fitted, scores, strict=True):
        assert set(score.tolist()) == {-(2.0**case.fold)}


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_of_a_blended_first_step_a_share_is_new_and_the_rest_as_it_was(
    trained, source, place, monkeypatch, share
):
    proxy, probe, _ = trained
    width = len(probe.weights["first"])
    others = {name: torch.randn(width) for name in ("first", "single")}
    before = LinearProbe(dict(probe.weights) | others, probe.card)
    monkeypatch.setattr(fitting, "BLEND_SHARE", share)
    found, _ = train_probe(proxy, [source], place / "readings", LAYERS, quiet, blend=before)
    for name, weights in others.items():
        expected = probe.weights[name] if share else weights
        scale = found.weights[name].norm() / expected.norm()
        torch.testing.assert_close(found.weights[name], expected * scale, rtol=1e-3, atol=1e-4)
        assert share or scale == pytest.approx(1)
    assert torch.equal(found.weights["alone"], before.weights["alone"])


def test_a_second_fit_reads_nothing_again(trained, source, place, monkeypatch):
    proxy, probe, _ = trained
    for reading in ("read", "read_with_kv", "read_cached"):
        monkeypatch.setattr(proxy, reading, None)
    again, _ = train_probe(proxy, [source], place / "readings", LAYERS, quiet)
    torch.testing.assert_close(again.weights["first"], probe.weights["first"])


def test_calibration_moves_probabilities_and_keeps_the_order_of_units(trained):
    _, probe, cases = trained
    some = cases[:9]
    again = recalibrate(probe, some)
    assert again.card.figures["recalibrated_on"] == 9
    assert not torch.equal(again.weights["calibration"], probe.weights["calibration"])
    for case in cases:
        before, after = (case_probabilities(p, case) for p in (probe, again))
        assert before.argsort(stable=True).tolist() == after.argsort(stable=True).tolist()
    for name in ("first", "levels", "alone"):
        assert torch.equal(again.weights[name], probe.weights[name])


def test_evidence_counts_gold_units_and_whole_questions_within_the_share():
    def case(source, tokens, gold):
        held = torch.tensor(gold)
        texts = RequestTexts("", None, None, tokens, False)
        return LabelledReading(source, source, 0, {}, held, held, texts, held)

    two = [case("a", (5, 5, 10), [True, True, False]), case("b", (1,), [True])]
    p = [torch.tensor([0.9, 0.1, 0.5]), torch.tensor([1.0])]
    # 10 of 20 tokens: the first unit, no room for the second best, then the third best
    assert evidence_kept(p, two, 0.5, "a") == [1.0, 1.0, 1]
    assert evidence_kept(p, two, 0.25, "a") == [0.5, 0.0, 1]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([], "no answerable record"),
        ([record("a", "Q?", doc("No gold."))], "no answerable record"),
        ([record("a", "Q?", doc("A.", "B.", gold=[0]), doc("C."))] * 9, "too few articles"),
    ],
)
def test_data_that_nothing_can_be_learnt_from_is_refused(trained, tmp_path, rows, says):
    bad = RecordFile(write(tmp_path / "bad.jsonl", rows))
    with pytest.raises(BadInput, match=says):
        train_probe(trained[0], [bad], tmp_path, LAYERS, quiet)


def test_an_unknown_loss_is_refused_before_anything_is_read(source, tmp_path):
    with pytest.raises(BadInput, match="no loss 'hinge'"):
        train_probe(tiny.proxy(), [source], tmp_path / "none", LAYERS, quiet, "hinge")
    assert not (tmp_path / "none").exists()


def test_a_limit_takes_the_same_questions_every_time(source):
    some = [row["id"] for row in answerable_records(RecordFile(source.path, 7))]
    assert len(some) == 7
    assert some == [row["id"] for row in answerable_records(RecordFile(source.path, 7))]
    assert some == [row["id"] for row in example_records() if row["id"] in some]


@pytest.mark.parametrize("recipe", ["published", "like-cases"])
def test_sentinel_is_fitted_by_either_recipe_and_accepted(source, place, recipe):
    proxy = tiny.proxy()
    probe = train_sentinel(proxy, [source], place / "readings", recipe, quiet)
    probe.save(place / f"{recipe}.safetensors")
    method = Sentinel(proxy, LinearProbe.load(place / f"{recipe}.safetensors"))
    row = example_records()[0]
    found = method.scores(row["question"], passages_of(row), request_units(row))
    assert len(found.values) == 7
    assert probe.card.figures["recipe"] == recipe
    assert 0 <= probe.card.figures["held_out_auc"] <= 1
