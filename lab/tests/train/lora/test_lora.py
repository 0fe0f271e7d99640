"""A tiny random model learns where to look on a planted task, also across an interruption."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
import torch

from lab.tests.bench.records import doc, record, write
from tamis.probes.errors import BadInput, BadModelFile
from tamis.probes.hub.adapters import merge
from tamis_lab.datasets.record_files import RecordFile, fold_of
from tamis_lab.train.lora import checkpoint
from tamis_lab.train.lora.examples import Draw, build_example, draw_records, take_from_each_file
from tamis_lab.train.lora.export import trained_adapters
from tamis_lab.train.lora.recipe import LoraRecipe
from tamis_lab.train.lora.training_run import build_training_run
from tests.probes import tiny
from tests.probes.tiny import one_thread  # noqa: F401

RECIPE = LoraRecipe(depth=4, first_layer=1, rank=4, rate=1e-2, head_rate=3e-3, question_tokens=200)


def planted(count: int = 60) -> list[dict]:
    """Sentences of equal length and random letters: gold has a z where others have a y.

    The question has no words, so that words tell nothing.
    """
    chance = random.Random(4)

    def sentence(mark: str) -> str:
        letters = [chance.choice("abcdefghijkl") for _ in range(18)]
        letters[chance.randrange(18)] = mark
        return "".join(letters) + "."

    rows = []
    for n in range(count):
        gold = [sentence("z" if i == n % 3 else "y") for i in range(3)]
        others = [[sentence("y") for _ in range(3)] for _ in range(2)]
        docs = [doc(*others[0]), doc(*gold, gold=[n % 3], title=f"T{n}"), doc(*others[1])]
        rows.append(record(f"q{n}", "? ? ?", *docs))
    return rows


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = write(tmp_path_factory.mktemp("planted") / "planted.jsonl", planted())
    return RecordFile(path, limit=120)


def quiet(name: str, done: int, total: int, note: str) -> None:
    """Takes reports of progress."""


def build_run(source, folder, recipe=RECIPE, questions=120, every=40):
    return build_training_run(
        tiny.proxy(), [source], recipe, folder, questions, validate_on=12, validate_every=every
    )


@pytest.fixture(scope="module")
def trained(source, tmp_path_factory):
    """A whole run, and its curve."""
    run = build_run(source, tmp_path_factory.mktemp("trained"))
    return run, run.run(quiet)


def kept_gold(row) -> float:
    return row["held_out"]["kept"]["alone"]["planted"]


def test_training_lowers_the_loss_and_raises_the_evidence_on_articles_never_seen(trained):
    _, curve = trained
    assert [row["questions"] for row in curve] == [0, 40, 80, 120]
    first, last = curve[0], curve[-1]
    assert last["held_out"]["loss"] < 0.5 * first["held_out"]["loss"]
    assert kept_gold(last) >= kept_gold(first) + 0.3


def test_it_is_the_adapters_that_find_it_and_not_the_heads_over_them(trained, source, tmp_path):
    curve = build_run(source, tmp_path, replace(RECIPE, rate=0.0)).run(quiet)
    assert curve[-1]["held_out"]["loss"] > 2 * trained[1][-1]["held_out"]["loss"]


def test_nothing_frozen_moves_and_nothing_is_left_out_of_the_adapters(trained):
    run, curve = trained
    before = tiny.proxy().model.state_dict()
    after = run.proxy.model.state_dict()
    for name, tensor in before.items():
        names = [name, name.replace("weight", "frozen.weight")]
        assert torch.equal(after[names[0] if names[0] in after else names[1]], tensor), name
    adapters = trained_adapters(run, curve, "sharp", "tiny")
    assert len(adapters.pairs) == 2 * len(RECIPE.adapted_layers)
    assert all(b.abs().max() > 0 for _, b in adapters.pairs.values())
    merged = tiny.proxy()
    merge(merged.model, adapters)
    moved = {n for n, t in merged.model.state_dict().items() if not torch.equal(t, before[n])}
    assert moved == {f"{name}.weight" for name in adapters.pairs}


class Stopped(Exception):
    """The process was killed."""


def test_a_run_that_was_stopped_goes_on_as_if_it_never_had_been(trained, source, tmp_path):
    def until(name: str, done: int, total: int, note: str) -> None:
        if name == "learning" and done > 60:
            raise Stopped

    with pytest.raises(Stopped):
        build_run(source, tmp_path).run(until)
    again = build_run(source, tmp_path)
    curve = again.run(quiet)
    whole, expected = trained
    assert [without_seconds(row) for row in curve] == [without_seconds(row) for row in expected]
    for name, parameter in again.student.parameters().items():
        assert torch.equal(parameter, whole.student.parameters()[name]), name


def without_seconds(row):
    return {key: value for key, value in row.items() if key != "seconds"}


def test_a_run_that_is_done_is_not_done_again(trained, source):
    run, curve = trained
    reports = []
    assert build_run(source, run.folder).run(lambda *report: reports.append(report)) == curve
    assert reports == []


def test_a_run_behind_another_goes_on_with_what_it_left(source, tmp_path):
    """The next questions, the optimizer's moments, one curve; and the same again, the same."""
    halves = [tmp_path / "first", tmp_path / "second"]
    first = build_run(source, halves[0], questions=40)
    begun = first.run(quiet)
    second = build_training_run(
        *(tiny.proxy(), [source], RECIPE, halves[1], 80),
        validate_on=12,
        validate_every=40,
        behind=halves[0],
    )
    assert second.draws == draw_records([source], RECIPE.seed)[0][40:120]
    assert [each["questions"] for each in second.trained_on] == [120]
    curve = second.run(quiet)
    assert [row["questions"] for row in curve] == [0, 40, 80, 120]
    assert curve[:2] == begun
    steps = {float(state["step"]) for state in second.optimizer.state.values()}
    assert steps == {second.steps + first.steps}
    third = build_training_run(
        *(tiny.proxy(), [source], RECIPE, tmp_path / "third", 80),
        validate_on=12,
        behind=halves[0],
    )
    third.run(quiet)
    for name, parameter in third.student.parameters().items():
        assert torch.equal(parameter, second.student.parameters()[name]), name


def test_a_run_that_goes_on_begins_where_the_other_ended(source, tmp_path):
    first = build_run(source, tmp_path / "first", questions=40)
    first.run(quiet)
    still = replace(RECIPE, rate=0.0, head_rate=0.0)
    on = build_training_run(
        *(tiny.proxy(), [source], still, tmp_path / "on", 8),
        validate_on=12,
        behind=tmp_path / "first",
    )
    on.run(quiet)
    for name, parameter in on.student.parameters().items():
        assert torch.equal(parameter, first.student.parameters()[name]), name


@pytest.mark.parametrize("change", [{"rank": 2}, {"seed": 1}, {"projections": "qkvo"}])
def test_only_a_finished_run_on_these_questions_can_be_gone_on_with(source, tmp_path, change):
    def behind(recipe=RECIPE, questions=8):
        return build_training_run(
            *(tiny.proxy(), [source], recipe, tmp_path / "on", questions),
            validate_on=12,
            behind=tmp_path / "first",
        )

    with pytest.raises(BadModelFile, match="cannot be read as a checkpoint"):
        behind()

    def until(name: str, done: int, total: int, note: str) -> None:
        if name == "learning" and done > 10:
            raise Stopped

    with pytest.raises(Stopped):
        build_run(source, tmp_path / "first", questions=16, every=8).run(until)
    with pytest.raises(BadInput, match="no finished run on these questions"):
        behind()
    build_run(source, tmp_path / "first", questions=16, every=8).run(quiet)
    assert behind().before == 16
    with pytest.raises(BadInput, match="no finished run on these questions"):
        behind(replace(RECIPE, **change))


def test_files_of_one_name_are_counted_apart(tmp_path):
    files = []
    for folder, limit in (("ours", 4), ("theirs", 6)):
        (tmp_path / folder).mkdir()
        files.append(RecordFile(write(tmp_path / folder / "train.jsonl", planted()), limit=limit))
    run = build_training_run(tiny.proxy(), files, RECIPE, tmp_path / "out", validate_on=12)
    counted = [(each["name"], each["questions"]) for each in run.trained_on]
    assert counted == [("ours/train", 4), ("theirs/train", 6)]


def test_a_run_that_has_drawn_everything_leaves_nothing(source, tmp_path):
    alone = replace(source, limit=12)
    build_run(alone, tmp_path / "first", questions=None, every=40).run(quiet)
    with pytest.raises(BadInput, match=r"all 12 questions .* give that folder as --proxy"):
        build_training_run(
            *(tiny.proxy(), [alone], RECIPE, tmp_path / "on"),
            validate_on=12,
            behind=tmp_path / "first",
        )


@pytest.mark.parametrize("change", [{"rate": 1e-3}, {"rank": 2}, {"seed": 1}])
def test_a_checkpoint_of_another_recipe_is_refused(trained, source, change):
    other = build_run(source, trained[0].folder, replace(RECIPE, **change))
    with pytest.raises(BadInput, match="checkpoint of another run"):
        other.run(quiet)


def test_a_torn_checkpoint_is_refused_and_not_begun_anew(source, tmp_path):
    build_run(source, tmp_path, questions=8, every=8).run(quiet)
    path = tmp_path / checkpoint.FILE
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(BadModelFile, match="cannot be read as a checkpoint"):
        build_run(source, tmp_path, questions=8, every=8).run(quiet)


def test_a_curve_that_cannot_be_read_is_named(source, tmp_path):
    build_run(source, tmp_path, questions=8, every=4).run(quiet)
    (tmp_path / "curve.jsonl").write_text("{")
    with pytest.raises(BadModelFile, match=r"curve\.jsonl is no curve"):
        build_run(source, tmp_path, questions=8, every=4).run(quiet)


def test_articles_that_judge_are_never_learnt_from(source):
    learnt, held = draw_records([source], seed=0)
    assert {fold_of(d.record) for d in learnt} == {1, 2, 3, 4}
    assert {fold_of(d.record) for d in held} == {0}


def test_a_file_with_fewer_questions_than_asked_for_comes_again(source):
    learnt, _ = draw_records([source], seed=0)
    assert len(learnt) == 120
    draws = Counter((d.record["id"], d.epoch) for d in learnt)
    assert max(draws.values()) == 1
    assert {epoch for _, epoch in draws} > {0, 1}


def test_the_order_is_the_seeds(source):
    orders = [[d.record["id"] for d in draw_records([source], seed)[0]] for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


def test_judges_come_from_all_files_alike():
    draws = [Draw(name, {}) for name in "aaaaaaabbc"]
    assert Counter(d.source for d in take_from_each_file(draws, 6)) == {"a": 3, "b": 2, "c": 1}


def test_an_example_shows_all_gold_and_as_many_others_as_fit(source):
    draw = draw_records([source], seed=0)[0][0]
    layout, sizes = tiny.proxy().layout, []
    for room in (1, 150, 10_000):
        example = build_example(draw, layout, replace(RECIPE, question_tokens=room))
        assert int(example.gold.sum()) == 1
        assert len(example.gold) == len(example.tokens) == len(example.words)
        sizes.append(len(example.prompts))
    assert sizes == [1, 2, 3]


def test_data_without_articles_to_hold_out_are_refused(tmp_path):
    alone = [row for row in planted() if fold_of(row) == 1]
    source = RecordFile(write(tmp_path / "alone.jsonl", alone))
    with pytest.raises(BadInput, match="0 to judge by"):
        build_run(source, tmp_path)


def test_held_out_questions_without_anything_but_gold_are_refused(tmp_path):
    rows = [row for row in planted() if fold_of(row)]
    whole = [{**row, "docs": [row["docs"][1] | {"gold": [0, 1, 2]}]} for row in planted()]
    source = RecordFile(
        write(tmp_path / "whole.jsonl", rows + [r for r in whole if not fold_of(r)])
    )
    with pytest.raises(BadInput, match="nothing can be judged"):
        build_run(source, tmp_path)


@pytest.mark.parametrize("first", [-1, 4])
def test_layers_that_are_not_read_cannot_be_adapted(first):
    with pytest.raises(BadInput, match="give 0 to 3"):
        LoraRecipe(depth=4, first_layer=first)


@pytest.mark.parametrize("kinds", ["", "qq", "qx"])
def test_projections_that_no_layer_has_are_refused(kinds):
    with pytest.raises(BadInput, match="some of the letters of qkvo, each once"):
        LoraRecipe(depth=4, first_layer=1, projections=kinds)


def test_the_learning_rate_rises_and_falls():
    shares = [RECIPE.learning_rate_share(step, 100) for step in range(100)]
    top = shares.index(1.0)
    assert shares[: top + 1] == sorted(shares[: top + 1])
    assert shares[top:] == sorted(shares[top:], reverse=True)
    assert 0 < shares[-1] < 0.01
