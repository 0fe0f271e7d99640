"""Sentinel's two recipes: which sentences of which contexts are learnt from, and how."""

from __future__ import annotations

import random

import numpy as np
import pytest

from lab.tests.bench.records import doc, record, write
from lab.tests.train.lora.examples import example_records
from tamis.probes.errors import BadInput
from tamis_lab.datasets.record_files import RecordFile
from tamis_lab.train.probe import sentinel as training
from tests.probes import tiny
from tests.probes.tiny import one_thread  # noqa: F401

LONG = record("long", "Who?", doc("Straw. " * 290 + ".", "It was Ann.", gold=[1]))


def quiet(name: str, done: int, total: int) -> None:
    pass


def sentences(record: dict) -> list[str]:
    (one,) = record["docs"]
    return [one["text"][a:b] for a, b in one["sents"]]


def test_sentences_are_mixed_and_the_gold_ones_stay_gold():
    given = record("r", "Who?", doc("One.", "Two two.", "Three.", "Four.", gold=[1, 3], title="T"))
    chance = random.Random(0)
    orders = set()
    for _ in range(20):
        mixed = training._shuffle_sentences(given, chance)
        (one,) = mixed["docs"]
        said = sentences(mixed)
        orders.add(tuple(said))
        assert sorted(said) == ["Four.", "One.", "Three.", "Two two."]
        assert one["text"] == " ".join(said)
        assert sorted(said[i] for i in one["gold"]) == ["Four.", "Two two."]
        assert one["title"] == "T"
    assert len(orders) > 10


def test_a_pair_is_one_gold_and_one_other_sentence_drawn_by_the_record():
    gold = [False, True, False, True, False]
    pairs = [training._draw_pair(gold, str(seed)) for seed in range(40)]
    assert all(gold[a] and not gold[b] for a, b in pairs)
    assert {a for a, _ in pairs} == {1, 3}
    assert {b for _, b in pairs} == {0, 2, 4}


def test_published_contexts_are_short_shuffled_and_as_many_as_asked_for(tmp_path):
    rows = [*example_records(), LONG]
    path = write(tmp_path / "set.jsonl", rows)
    found = training._shuffled_records(RecordFile(path))
    assert sorted(r["id"] for r in found) == sorted(r["id"] for r in example_records())
    assert [r["id"] for r in found] != [r["id"] for r in example_records()]
    own = {r["id"]: r["docs"][0]["text"] for r in example_records()}
    assert any(r["docs"][0]["text"] != own[r["id"]] for r in found)
    assert len(training._shuffled_records(RecordFile(path, 7))) == 7
    # 2,000 characters are the most
    text = "It was Ann."
    edge = [
        record(str(n), "Who?", doc("x" * (2000 - len(text) - 1 + n), text, gold=[1]))
        for n in (0, 1)
    ]
    assert [
        r["id"] for r in training._shuffled_records(RecordFile(write(tmp_path / "e.jsonl", edge)))
    ] == ["0"]


@pytest.mark.parametrize(("recipe", "rows"), [("published", {(1, 1)}), ("like-cases", {(1, 6)})])
def test_a_recipe_learns_from_pairs_or_from_every_sentence(tmp_path, monkeypatch, recipe, rows):
    seen = {}

    def fitted(x, y, group):
        seen.update(y=np.array(y), group=np.array(group))
        return np.zeros(x.shape[1]), 0.0

    monkeypatch.setattr(training, "_fit_regression", fitted)
    source = RecordFile(write(tmp_path / "set.jsonl", example_records()), 20)
    probe = training.train_sentinel(tiny.proxy(), [source], tmp_path / "readings", recipe, quiet)
    by_question = [seen["y"][seen["group"] == g] for g in sorted(set(seen["group"]))]
    assert {(int(y.sum()), int((~y).sum())) for y in by_question} == rows
    assert len(by_question) < 20
    assert probe.card.trained_on[0]["questions"] == 20


def test_classes_are_balanced_and_c_is_chosen_by_auc_within_groups():
    """One gold in ten, told by one feature of two: a sentence in between has even odds."""
    chance = np.random.default_rng(0)
    y = np.arange(600) % 10 == 0
    x = np.stack([np.where(y, 1.0, -1.0) + 2 * chance.normal(size=600), chance.normal(size=600)], 1)
    w, bias = training._fit_regression(x, y, np.arange(600) // 10)
    assert w[0] > 3 * abs(w[1])
    # without balance the even odds lie log(9)/w higher
    assert abs(bias / w[0]) < 0.5


def test_too_few_questions_for_its_folds_are_refused_with_their_number():
    x, y = np.zeros((8, 2)), np.array([True, False] * 4)
    with pytest.raises(BadInput, match=r"4 questions .* at least 5"):
        training._fit_regression(x, y, np.arange(8) // 2)
