"""Treatments of sinks by hand; fits use no question on the article that they score."""

from __future__ import annotations

import json
import math

import pytest
import torch

from lab.tests.bench.records import counting_folder, people, write
from tamis.compressors import registry
from tamis.probes.errors import BadInput
from tamis.probes.tokens import TextTokenizer
from tamis.text.types import Passage
from tamis.text.units.segment import units_of
from tamis_lab.bench import sinks
from tamis_lab.datasets.records import passages_of
from tamis_lab.train.fit import LabelledFeatures, fit_listwise
from tests.probes import tiny
from tests.scripted import ScriptedReader
from tests.service.cli.cli_kit import tamis

WORD, STOP = 0.02, 0.10
"""Attention to a letter of the answering sentence, and to any full stop."""


def attend_to_stops(question, passage):
    """A model that attends to full stops and, for a real question, to "south"."""
    at = passage.find("south")
    found = range(at, at + 5) if at >= 0 and question != sinks.EMPTY_QUERY else ()
    return [STOP if c == "." else WORD if i in found else 0.001 for i, c in enumerate(passage)]


def reader():
    made = ScriptedReader(attend_to_stops, layers=1, heads=1)
    made.dtype = torch.float32
    return made


def case():
    passages = [Passage("No. Go south. Ah.")]
    units = units_of(passages)
    assert len(units) == 3
    reading = sinks.SinkFeatures(reader()).read("Where to?", passages, units)
    log_features = reading.features.view(3, 5, -1).movedim(1, 0)
    return sinks.SinkCase({}, units, log_features, torch.tensor([False, True, False]))


def best(way):
    return int(case().mean_scores(way).argmax())


def test_each_treatment_subtracts_what_it_should():
    """ "No." and "Ah." are a third full stops; only the question makes "south" stand out."""
    raw, empty, content, empty_spoken, total = case().log_features.exp()[:, :, 0]
    # the mean over rows is less sharp than the script, and alike in order
    assert raw[0] > raw[1]
    assert content[1] > 1.2 * content[0]
    assert raw[0] == pytest.approx(float(empty[0]), rel=0.25)
    assert content[1] > 1.2 * empty_spoken[1]
    assert len(set(total.tolist())) == 1
    assert [best(way) for way in sinks.TREATMENTS] == [0, 0, 1, 1, 1]


def test_means_and_sums_of_a_window_by_hand():
    asked = torch.tensor([[[0.1, 0.5, 0.2, 0.1]]])
    empty = torch.tensor([[[0.1, 0.3, 0.0, 0.0]]])
    content = torch.tensor([True, False, True, True])
    found = sinks.window_features(asked, empty, content, [(0, 2), (2, 4), (1, 2)])
    due = [
        [0.3, 0.2, 0.1, 0.1, 0.9],
        [0.15, 0.0, 0.15, 0.0, 0.9],
        [0.5, 0.3, 0.0, 0.0, 0.9],
    ]
    assert found == pytest.approx(torch.tensor(due), abs=1e-6)


def test_separators_are_tokens_without_letter_or_digit():
    tokens = TextTokenizer(tiny.tokenizer(), "tiny")
    passages = [Passage("a, b. 7!"), Passage("(c)")]
    found = sinks.separator_ids(tokens, passages)
    for passage in passages:
        encoded = tokens.encode(passage.text)
        for number, (a, b) in zip(encoded.ids, encoded.offsets, strict=True):
            assert (number in found) == (not any(c.isalnum() for c in passage.text[a:b]))


def noisy(seed=0):
    """A good head and a sink in both heads: only a negative weight subtracts the sink."""
    chance = torch.Generator().manual_seed(seed)
    questions = []
    for _ in range(40):
        gold = torch.zeros(6, dtype=torch.bool)
        gold[int(torch.randint(6, (1,), generator=chance))] = True
        sink = 3 * torch.randn(6, generator=chance)
        noise = 0.1 * torch.randn(6, 2, generator=chance)
        features = torch.stack([gold.float() + sink, sink], 1) + noise
        questions.append(LabelledFeatures(features, gold))
    return questions


def test_nonnegative_weights_are_never_below_zero_and_signed_ones_subtract_a_sink():
    questions = noisy()
    held = sinks.fit_nonnegative(questions, 0.001)
    signed, _ = fit_listwise(questions, 0.001)
    assert (held >= 0).all()
    assert signed[0] > 0 > signed[1]

    def right(w):
        return sum(bool(q.gold[(q.features @ w).argmax()]) for q in noisy(1))

    assert right(signed) >= 38 > 25 > right(held)


def test_the_nonnegative_fit_is_the_listwise_fit_where_no_weight_would_be_negative():
    questions = [LabelledFeatures(q.features[:, :1] * torch.tensor([1.0]), q.gold) for q in noisy()]
    plain, _ = fit_listwise(questions, 0.01)
    assert sinks.fit_nonnegative(questions, 0.01) == pytest.approx(plain, rel=0.02, abs=1e-4)


def rows():
    return [{**row, "answers": ["x"]} for row in people()]


def test_a_fit_uses_no_question_on_the_article_it_scores(monkeypatch):
    sizes = []

    def record_sizes(questions, l2):
        sizes.append(len(questions))
        return torch.zeros(questions[0].features.shape[1]), 0.0

    monkeypatch.setattr(sinks, "fit_listwise", record_sizes)
    cases = []
    for row in rows():
        passages = passages_of(row)
        units = units_of(passages)
        reading = sinks.SinkFeatures(reader()).read(row["question"], passages, units)
        view = reading.features.view(len(units), 5, -1).movedim(1, 0)
        cases.append(sinks.SinkCase(row, units, view, torch.tensor([False, True, False, False])))
    sinks.out_of_fold_scores(cases, "raw", signed=True)
    folds = [sinks.fold_of(case.record) for case in cases]
    assert sizes == [sum(own != fold for own in folds) for fold in sorted(set(folds))]
    assert max(sizes) < len(cases)


def test_questions_on_one_article_leave_nothing_to_fit_on():
    row = rows()[0]
    units = units_of(passages_of(row))
    log_features = torch.zeros(5, len(units), 8)
    case = sinks.SinkCase(row, units, log_features, torch.tensor([False, True, False, False]))
    for signed in (True, False):
        with pytest.raises(BadInput, match=r"all 1 questions to fit on .* give more sets"):
            sinks.out_of_fold_scores([case], "raw", signed)


def test_the_command_reads_once_prints_and_draws(tmp_path, monkeypatch):
    counting_folder(tmp_path / "proxy")
    made = reader()
    monkeypatch.setattr(registry, "load_proxy", lambda *_: made)
    monkeypatch.setattr("tamis_lab.bench.sinks.cached_reader", lambda proxy: proxy)
    write(tmp_path / "people.jsonl", rows())
    words = ("lab", "bench", "sinks", "--data", tmp_path, "--sets", "people", "--limit", "8")
    words += ("--proxy", tmp_path / "proxy", "--cache", tmp_path / "readings")
    done = tamis(*words, "--plot", tmp_path / "s.png")
    assert done.exit_code == 0, done.output
    assert "without separators, fitted" in done.stdout
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")
    read = made.prompts_read
    assert read
    methods = json.loads(tamis(*words, "--json").stdout)["sets"]["people"]["methods"]
    assert made.prompts_read == read
    assert set(methods) == {f"{way}, {mix}" for way in sinks.TREATMENTS for mix in sinks.MIXES}
    assert all(
        math.isfinite(c["gold_kept"]) for of in methods.values() for c in of["budgets"].values()
    )


def test_what_cannot_be_compared_is_refused_in_one_line(tmp_path):
    write(tmp_path / "people.jsonl", rows())
    for words, message in (
        (("--sets", "nobody"), "there are: people"),
        (("--budgets", "much"), "give numbers"),
    ):
        done = tamis("lab", "bench", "sinks", "--data", tmp_path, *words)
        assert done.exit_code == 2
        assert message in done.stderr
