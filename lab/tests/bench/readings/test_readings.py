"""The table of readings: figures by hand, fits that see no judged article, one pass kept."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from lab.tests.bench.records import doc, people, record, write
from lab.tests.methods.window_attention import kit
from tamis.compressors import registry
from tamis.probes.errors import BadInput, ProbeMismatch
from tamis.probes.probing.heads import HeadProfile
from tamis_lab.bench import readings
from tamis_lab.datasets.record_files import RecordFile, fold_of
from tamis_lab.datasets.records import request_units
from tests.service.cli.cli_kit import tamis

RECORD = record(
    "r",
    "Where does Ann live?",
    doc("Ann sings at noon.", "Ann does live in town.", gold=[1], title="Ann"),
    doc("Bob sings at noon.", "Nobody minds the rain here.", title="Bob"),
    lang="en",
)


def case(row=RECORD, features=None, scores=None):
    units = request_units(row)
    gold = torch.tensor([u.visible == tuple(row["docs"][0]["sents"][1]) and not u.passage
                         for u in units])  # fmt: skip
    return readings.ReadingCase(
        row, "set", tuple(units), gold, (10,) * len(units), features or {}, scores or {}
    )


def test_gold_kept_by_hand():
    one = case()
    assert one.gold.tolist() == [False, True, False, False]
    scores = torch.tensor([3.0, 2, 1, 0])
    assert [readings.kept_gold(one, scores, share) for share in (0.25, 0.49, 0.5, 1)] == [
        0,
        0,
        1,
        1,
    ]


def test_a_passage_ranks_by_its_best_unit():
    assert readings.reciprocal_rank(case(), torch.tensor([0.0, 3, 2, 1])) == 1
    assert readings.reciprocal_rank(case(), torch.tensor([2.0, 0, 1, 3])) == 0.5


def test_answerability_is_the_auroc_of_the_best_score():
    rows = [case(), case(), case({**RECORD, "answerable": False})]
    scores = [torch.tensor([0.0, b, 0, 0]) for b in (3.0, 1.0, 2.0)]
    assert readings.answerability(rows, {"it": {"plain": scores}}) == {"it": {"plain": 0.5}}


def test_heads_of_a_profile_are_read_from_the_logs_of_means():
    mean, empty = torch.tensor([[0.4, 0.2, 0.1, 0.3]]), torch.tensor([[0.1, 0.1, 0.3, 0.1]])
    filler = torch.zeros(1, 4)
    one = case(features={
        readings.RAW: torch.cat([mean.log(), filler], 1),
        readings.CALIBRATED: torch.cat([mean.log() - empty.log(), filler], 1),
    })  # fmt: skip
    found = readings.head_scores([one], {"mine": [(0, 1), (1, 1)]}, 2)
    (scores,) = found["heads by mine"]["heads"]
    assert scores.tolist() == pytest.approx([(0.1 + 0.2) / 2])


def test_a_row_enters_where_it_is_ahead_on_one_set_and_behind_on_none():
    def of(**lows):
        def row(low):
            return {"added": {"ahead_of_raw": {"0.2": [0, low, 1]}, "kept": {"0.2": 1}}}

        return {"rows": {"raw": row(0), **{name: row(low) for name, low in lows.items()}}}

    sets = {"a": of(x=0.01, y=0.02, z=0.0), "b": of(x=-0.004, y=-0.006, z=0.0)}
    assert readings.entering_rows(sets) == {"x": ["0.2: a"]}


def made_cases():
    """Eight articles; the gold unit has the one feature that tells."""
    chance = torch.Generator().manual_seed(0)
    found = []
    for row in people():
        one = case({**row, "docs": row["docs"]})
        told = one.gold.float()[:, None] + 0.1 * torch.randn(len(one.gold), 3, generator=chance)
        found.append(case(row, {"it": told}))
    return found


def test_no_question_is_judged_by_a_fit_that_saw_its_article(monkeypatch):
    given = made_cases()
    seen = []

    def remember(fit_on, held):
        seen.append(len(fit_on) + len(held))
        return torch.zeros(3)

    monkeypatch.setattr(readings, "fit_with_chosen_l2", remember)
    readings.out_of_fold_scores(given, given, ["it"])
    folds = [fold_of(one.record) for one in given]
    assert seen == [sum(own != fold for own in folds) for fold in sorted(set(folds))]
    assert max(seen) < len(given)


def test_a_probe_finds_the_feature_that_tells():
    given = made_cases()
    scores = readings.out_of_fold_scores(given, given, ["it"])
    assert [int(s.argmax()) for s in scores] == [1] * 8


def test_the_l2_is_the_one_with_the_least_loss_on_held_questions(monkeypatch):
    tried = {0.003: 2.0, 0.03: 3.0, 0.3: 1.0}
    used = []

    def fit(questions, l2, steps=80):
        used.append((len(questions), l2))
        return torch.tensor([l2]), 0.0

    monkeypatch.setattr(readings, "fit_listwise", fit)
    monkeypatch.setattr(readings, "mean_listwise_loss", lambda w, held: tried[round(float(w), 4)])
    readings.fit_with_chosen_l2(["a", "b"], ["c"])
    assert used == [(2, 0.003), (2, 0.03), (2, 0.3), (3, 0.3)]


def test_questions_on_one_article_leave_nothing_to_fit_on():
    with pytest.raises(BadInput, match="give more files"):
        readings.out_of_fold_scores(made_cases()[:1], made_cases()[:1], ["it"])


def compare(folder, names=("value_mass",), **options):
    file = RecordFile(write(folder / "people.jsonl", people()), 8)
    given = {"layers": 2, "folder": folder / "kept", "timed": 0, "seed": 0}
    given |= {"report": lambda *_: None} | options
    return readings.compare_readings(kit.proxy(), names, [file], None, (0.2, 0.5), **given)


def test_raw_is_always_there_and_never_ahead_of_itself(tmp_path):
    found = compare(tmp_path)["sets"]["people"]
    assert list(found["rows"])[:3] == ["raw", readings.CALIBRATED, "value_mass"]
    for column in found["rows"]["raw"].values():
        assert column["ahead_of_raw"] == {"0.2": [0, 0, 0], "0.5": [0, 0, 0]}
    assert found["rows"]["value_mass"]["plain"] != found["rows"]["raw"]["plain"]


def test_what_was_read_is_not_read_again_and_a_new_reading_reads_itself_alone(
    tmp_path, monkeypatch
):
    first = compare(tmp_path)
    asked = []

    def remember(reader, passage, question, layers, readings):
        asked.append(set(readings))
        return read(reader, passage, question, layers, readings)

    read = readings.read_window
    monkeypatch.setattr(readings, "read_window", remember)
    assert compare(tmp_path)["sets"] == first["sets"]
    assert not asked
    compare(tmp_path, ("value_mass", "anchors"))
    assert asked
    assert all(names == {"anchors"} for names in asked)


def test_the_command_prints_draws_and_writes_the_table(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "load_proxy", lambda *_: kit.proxy())
    rows = people()
    file = write(tmp_path / "people.jsonl", rows)
    hard = [*rows, *({**row, "id": f"n{i}", "answerable": False} for i, row in enumerate(rows))]
    words = (
        "lab",
        "bench",
        "readings",
        "--data",
        file,
        "--layers",
        2,
        "--cache",
        tmp_path / "kept",
    )
    words += ("--readings", "flow,zero:form=reading,roles")
    words += ("--answerable", write(tmp_path / "hard.jsonl", hard))
    done = tamis(*words, "--plot", tmp_path / "t.png")
    assert done.exit_code == 0, done.output
    assert "gold sentences kept" in done.stdout
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")
    found = json.loads(tamis(*words, "--json").stdout)
    rows = found["sets"]["people"]["rows"]
    assert list(rows) == ["raw", readings.CALIBRATED, "flow", "zero:form=reading", "roles"]
    assert all(0 <= c["mrr"] <= 1 for row in rows.values() for c in row.values())
    assert found["answerability"]["raw"].keys() == set(readings.COLUMNS)
    assert all(ms > 0 for ms in found["cost_ms"].values())


def test_profiles_in_files_are_judged_beside_those_that_ship(tmp_path):
    card = kit.proxy().card
    scores = ((0.9, 0.8, 0.7, 0.6), (0.9, 0.8, 0.7, 0.6))
    path = tmp_path / "echo.json"
    HeadProfile(card.name, card.revision, "short", 2, 4, "echo", scores).save(path)
    found = readings.best_heads(kit.proxy(), 2, [path])
    assert list(found) == ["echo"]
    assert len(found["echo"]) == readings.HEADS
    other = replace(HeadProfile.load(path), revision="x")
    other.save(path)
    with pytest.raises(ProbeMismatch):
        readings.best_heads(kit.proxy(), 2, [path])


def test_an_unknown_reading_is_refused_before_anything_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "load_proxy", lambda *_: kit.proxy())
    file = write(tmp_path / "people.jsonl", people())
    for given, message in (
        ("rolout", "did you mean 'rollout'"),
        ("zero:gamma=much", "gamma is 'much'; give a number"),
        ("flow:less_empty=true", "flow has no option ['less_empty']"),
    ):
        done = tamis("lab", "bench", "readings", "--data", file, "--readings", given)
        assert done.exit_code == 2
        assert message in done.stderr
