"""What a trained probe promises: coverage, and to tell contexts that hold no answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lab.tests.bench.records import doc, record, write
from lab.tests.train.lora.examples import example_records
from tamis.compressors.methods.question_rows import QuestionRows
from tamis_lab.datasets.reading_store import cached_reader
from tamis_lab.datasets.record_files import RecordFile, answerable_records, unanswerable_records
from tamis_lab.datasets.records import gold_spans, join_articles, passages_of, request_units
from tamis_lab.train.probe.answerability import (
    answerability_figures,
    class_weights,
    remove_gold,
)
from tamis_lab.train.probe.coverage import COVERAGE_TARGETS, coverage_figures, reached_coverage
from tamis_lab.train.probe.figures import case_probabilities
from tamis_lab.train.probe.fitting import train_probe
from tamis_lab.train.probe.labelled_readings import label_reading
from tests.probes import tiny
from tests.probes.tiny import one_thread  # noqa: F401

LAYERS = 2


def quiet(name, done, total):
    """Takes reports of progress."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    place = tmp_path_factory.mktemp("promises")
    rows = example_records()
    rows += [
        {**row, "id": f"{row['id']}-none", "answerable": False}
        for row in without_answers(example_records())
    ]
    source = RecordFile(write(place / "records.jsonl", rows))
    proxy = tiny.proxy()
    return proxy, *train_probe(proxy, [source], place / "readings", LAYERS, quiet)


def without_answers(rows):
    """The same questions over documents that hold no answer."""
    for row in rows:
        row["docs"] = [{**d, "gold": []} for d in row["docs"][1:]]
    return rows


def test_what_is_left_without_gold_is_what_a_reading_without_it_sees(trained):
    proxy, _, cases = trained
    method = QuestionRows.for_fit(cached_reader(proxy), LAYERS)
    for case in cases[:5]:
        found = remove_gold(case)
        passages, units = passages_of(found.record), request_units(found.record)
        reading = method.read(found.record["question"], passages, units)
        again = label_reading(case.source, case.domain, found.record, units, reading, found.gold)
        torch.testing.assert_close(
            found.isolated, again.isolated, atol=2e-2, rtol=1e-2
        )  # fp16 on disk
        assert found.tokens == again.tokens
        assert not found.gold.any()


def test_a_probe_tells_contexts_with_an_answer_from_those_without(trained):
    proxy, probe, cases = trained
    figures = probe.card.figures["answerability"]["records"]
    assert figures["unanswerable"] > 0
    assert figures["auroc"] > 0.8
    method = QuestionRows(proxy, probe)
    row, none = cases[0].record, remove_gold(cases[0]).record
    yes, no = (
        method.scores(r["question"], passages_of(r), request_units(r)).answerability
        for r in (row, none)
    )
    assert 0 <= no < yes <= 1


def test_auroc_falls_to_a_coin_when_both_sides_are_the_same(trained):
    _, probe, cases = trained
    figures = answerability_figures(probe, cases, cases)
    assert figures["records"]["auroc"] == pytest.approx(0.5)


def test_the_thresholds_are_the_lowest_gold_of_the_questions_held_out(trained):
    _, probe, cases = trained
    held = [case for case in cases if not case.fold]
    lowest = sorted(float(case_probabilities(probe, case)[case.gold].min()) for case in held)
    assert probe.weights["lowest"].tolist() == pytest.approx(lowest)
    assert len(probe.weights["alone_lowest"]) == len(held)


def test_more_coverage_keeps_more_of_the_evidence_and_of_the_tokens(trained):
    _, probe, cases = trained
    rows = list(coverage_figures(probe, cases).values())
    for side in ("reached", "tokens"):
        values = [row[side] for row in rows]
        assert values == sorted(values)
    promised = reached_coverage(probe, cases)["records"]
    assert set(promised) == {str(ask) for ask in COVERAGE_TARGETS}
    assert all(0 < row["tokens"] <= 1 for row in promised.values())


def test_an_article_is_one_document_that_says_the_same_and_knows_its_gold():
    rows = [
        record("a", "Q?", doc("One. ", "Two is gold.", gold=[1], title="T")),
        record("b", "Q?", doc("Three is gold. ", "Four.", gold=[0], title="T")),
        record("c", "Q?", doc("Elsewhere.", gold=[0], title="U")),
    ]
    joined = join_articles(rows)
    assert [len(row["docs"]) for row in joined] == [1, 1, 1]
    assert (
        joined[0]["docs"][0]["text"] == joined[1]["docs"][0]["text"] != rows[0]["docs"][0]["text"]
    )
    for row, whole in zip(rows, joined, strict=True):
        (before,), (after,) = gold_spans(row), gold_spans(whole)
        texts = (r["docs"][d]["text"][a:b] for r, (d, a, b) in ((row, before), (whole, after)))
        assert len(set(texts)) == 1
    assert "gold" in rows[0]["docs"][0]
    assert rows[0]["docs"][0]["gold"] == [1]  # the caller's records stay as they were


def test_articles_are_limited_each_and_have_no_absent_records(tmp_path):
    alone = [{**row, "docs": row["docs"][:1]} for row in example_records()]
    source = RecordFile(write(tmp_path / "records.jsonl", alone), 2, articles=True)
    rows = answerable_records(source)
    titles = [row["docs"][0]["title"] for row in rows]
    assert max(map(titles.count, titles)) == 2
    assert unanswerable_records(source) == []
    assert source.name == "records_articles"


def test_half_of_every_domain_is_answered_in_the_weights_of_its_questions():
    """Or a fit learns of which domain a question is, where one has few without an answer."""
    domains = np.array(["files"] * 9 + ["pools"] * 4 + ["claims", "tables"])
    answered = np.array([True] * 8 + [False] + [True, False] * 2 + [True, False])
    weights = class_weights(list(domains), answered)
    for group in (domains == "files", domains == "pools", np.isin(domains, ["claims", "tables"])):
        assert weights[group & answered].sum() == pytest.approx(weights[group & ~answered].sum())
        assert weights[group].sum() == pytest.approx(group.sum())
