"""Figures on public sets: equal to those of an independent program, and no worse than before."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from lab.tests.bench.records import read
from tamis.service.api.compress import counter_of
from tamis_lab.app import app
from tamis_lab.bench.evidence import (
    evidence_figures,
    kept_gold_flags,
    load_gold_records,
    tally_evidence,
)
from tamis_lab.bench.panel import build_panel
from tamis_lab.datasets.records import load_records

pytestmark = pytest.mark.data


def own_figures(results, gold):
    """Share of gold sentences kept, and of records with gold that have all of theirs."""
    hits = []
    for row, record in zip(results, gold, strict=True):
        spans = [[(a, b) for d, a, b in row["kept"] if d == i] for i in range(len(record["docs"]))]
        hits.append(kept_gold_flags(record, spans))
    every = [hit for of in hits for hit in of]
    complete = [all(of) for of in hits if of]
    return sum(every) / len(every), sum(complete) / len(complete)


@pytest.mark.parametrize(
    ("name", "distractors"), [("hotpotqa", 0), ("xquad_en", 5), ("covid_qa", 0)]
)
def test_an_independent_program_counts_the_same(
    proxy_folder, data_folder, tmp_path, name, distractors
):
    out, gold = tmp_path / "out.jsonl", tmp_path / "gold.jsonl"
    words = ["run", data_folder / f"dev/{name}.jsonl.gz", "--method", "lexical", "--limit", 30]
    words += ["--distractors", distractors, "--out", out, "--gold-out", gold]
    done = CliRunner().invoke(app, ["bench", *map(str, [*words, "--proxy", proxy_folder])])
    assert done.exit_code == 0, done.stderr
    scorer = subprocess.run(
        [sys.executable, data_folder.parent / "score.py", out, gold, "--json"],
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    report = json.loads(scorer.stdout)
    assert (report["records"], report["records_without_result"]) == (30, 0)
    assert 0 < report["gold_sentence_recall"] < 1
    assert own_figures(read(out), load_records(gold)) == (
        report["gold_sentence_recall"],
        report["all_gold_kept"],
    )
    assert report["mean_share_of_tokens_kept"] <= 0.1


def kept_share(data_folder, tmp_path, name, limit, method, budget):
    rows, distractors = load_gold_records(data_folder / f"dev/{name}.jsonl.gz", limit, 0)
    panel = build_panel([method], "smollm2-135m", tmp_path).panel
    counts = tally_evidence(rows, panel, [budget], counter_of("proxy"), distractors)
    return evidence_figures(counts)["methods"][method]["budgets"][f"{budget:g}"]["gold_kept"]


@pytest.mark.usefixtures("proxy_folder")
def test_bm25_keeps_about_nine_tenths_of_single_gold_sentences_in_a_tenth(data_folder, tmp_path):
    assert 0.80 <= kept_share(data_folder, tmp_path, "xquad_en", 60, "lexical", 0.1) <= 0.95


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.usefixtures("proxy_folder", "one_thread")
def test_the_default_keeps_three_quarters_of_multi_hop_gold_in_a_fifth(data_folder, tmp_path):
    assert kept_share(data_folder, tmp_path, "hotpotqa", 25, "question_rows", 0.2) >= 0.75
