"""Evidence kept: what is counted, over which records, and how it is shown."""

from __future__ import annotations

import json

import pytest
from rich.console import Console
from typer.testing import CliRunner

from lab.tests.bench.records import counting_folder, doc, people, record, write
from tamis.compressors.methods.lead import Lead
from tamis.compressors.methods.lexical import Lexical
from tamis.compressors.types import Scores
from tamis.probes.errors import BadInput
from tamis.probes.tokens import TextTokenizer
from tamis_lab.app import app
from tamis_lab.bench.evidence import (
    evidence_figures,
    evidence_table,
    kept_gold_flags,
    load_gold_records,
    tally_evidence,
)
from tamis_lab.bench.panel import Panel, code_hashes
from tamis_lab.datasets.score_sources import TimedScores, TimedSource
from tamis_lab.options.shared import find_set_file
from tests.plugin_kit import forget_plugins, install_package
from tests.probes import tiny


@pytest.fixture(scope="module")
def counter():
    return TextTokenizer(tiny.tokenizer(), "tiny")


class Oracle:
    """Scores every unit with a word of the answer above all others, or below them."""

    def __init__(self, sign: int) -> None:
        self.sign = sign

    def score_case(self, question, passages, units):
        texts = [passages[u.passage].text[u.start : u.stop] for u in units]
        values = tuple(float(self.sign * ("does live" in text)) for text in texts)
        return TimedScores(Scores(values, (0.0,) * len(passages)), 3.0)


def test_a_gold_sentence_is_kept_when_nine_tenths_of_its_visible_characters_are():
    one = record("a", "q", doc("abcde fghij", gold=[0]))
    assert kept_gold_flags(one, [[(0, 10)]]) == [True]
    assert kept_gold_flags(one, [[(0, 9)]]) == [False]
    assert kept_gold_flags(one, [[(0, 5), (6, 11)]]) == [True]
    assert kept_gold_flags(one, [[]]) == [False]


def test_gold_is_searched_in_its_own_document():
    one = record("a", "q", doc("Same text."), doc("Same text.", gold=[0]))
    assert kept_gold_flags(one, [[(0, 10)], []]) == [False]
    assert kept_gold_flags(one, [[], [(0, 10)]]) == [True]


def test_an_oracle_keeps_all_gold_and_its_opposite_none(counter):
    panel = Panel(["best", "worst"], {"best": Oracle(1), "worst": Oracle(-1)})
    found = evidence_figures(tally_evidence(people(), panel, [0.4, 1.0], counter))["methods"]
    assert found["best"]["budgets"]["0.4"]["gold_kept"] == 1
    assert found["best"]["budgets"]["0.4"]["all_gold_kept"] == 1
    assert found["worst"]["budgets"]["0.4"]["gold_kept"] == 0
    assert found["worst"]["budgets"]["1"]["gold_kept"] == 1
    assert found["worst"]["budgets"]["1"]["mean_share"] == 1
    ahead = found["worst"]["budgets"]["0.4"]["reference_gold_ahead"]
    assert ahead == {"difference": 1, "low": 1, "high": 1}


def test_shares_are_over_all_gold_sentences_and_over_records_with_all_of_theirs(counter):
    """Half of the first record's gold is kept, and all of the second's."""
    rows = [
        record("a", "rare", doc("Some rare word.", "Quite another thing.", gold=[0, 1])),
        record("b", "rare", doc("One rare word.", "Not that other one.", gold=[0])),
    ]
    found = evidence_figures(
        tally_evidence(
            rows, Panel(["lexical"], {"lexical": TimedSource(Lexical())}), [0.55], counter
        )
    )
    cell = found["methods"]["lexical"]["budgets"]["0.55"]
    assert found["gold_sentences"] == 3
    assert cell["gold_kept"] == pytest.approx(2 / 3)
    assert cell["all_gold_kept"] == 1 / 2


def test_a_budget_below_every_unit_keeps_nothing_and_is_counted(counter):
    panel = Panel(["lead"], {"lead": TimedSource(Lead())})
    cell = evidence_figures(tally_evidence(people(), panel, [2], counter))["methods"]["lead"][
        "budgets"
    ]["2"]
    assert (cell["gold_kept"], cell["mean_tokens"], cell["too_small"]) == (0, 0, 8)


def test_the_default_is_the_reference_at_any_position_or_else_the_first(counter):
    sources = {name: Oracle(1) for name in ("lead", "question_rows", "lexical")}
    counts = tally_evidence(people(), Panel(list(sources), sources), [0.5], counter)
    found = evidence_figures(counts)
    assert found["reference"] == "question_rows"
    assert "reference_gold_ahead" not in found["methods"]["question_rows"]["budgets"]["0.5"]
    assert "reference_gold_ahead" in found["methods"]["lead"]["budgets"]["0.5"]
    del counts.outcomes["question_rows"]
    assert evidence_figures(counts)["reference"] == "lead"


def test_a_limit_takes_records_at_even_distances_and_changes_none(tmp_path):
    path = write(tmp_path / "people.jsonl", people())
    every, distractors = load_gold_records(path, None, 0)
    some, _ = load_gold_records(path, 3, 0)
    assert distractors == 5
    assert [r["id"] for r in some] == ["r0", "r2", "r5"]
    assert [every[0], every[2], every[5]] == some
    assert load_gold_records(path, 99, 0)[0] == every


def test_records_of_several_documents_get_no_distractors(tmp_path):
    rows = [record("a", "q", doc("One.", gold=[0]), doc("Two.")), record("b", "q", doc("No gold."))]
    assert load_gold_records(write(tmp_path / "a.jsonl", rows), None, 0) == (rows[:1], 0)


def test_a_set_without_gold_or_of_another_name_is_refused_with_what_there_is(tmp_path):
    path = write(tmp_path / "none.jsonl", [record("a", "q", doc("No gold."), doc("None here."))])
    with pytest.raises(BadInput, match="no record with gold"):
        load_gold_records(path, None, 0)
    with pytest.raises(BadInput, match="there are: none"):
        find_set_file(tmp_path, "some")


def evidence(folder, *words: object):
    given = ["evidence", "--data", folder, "--sets", "people", "--proxy", folder / "proxy"]
    given += ["--methods", "lexical,lead", "--cache", folder / "readings", *words]
    return CliRunner().invoke(app, ["bench", *map(str, given)])


@pytest.fixture
def folder(tmp_path):
    counting_folder(tmp_path / "proxy")
    write(tmp_path / "people.jsonl", people())
    return tmp_path


def test_the_command_writes_a_table_the_figures_and_a_plot(folder):
    words = ("--budgets", "0.1,0.3,40", "--results", folder / "rows.jsonl")
    done = evidence(folder, *words, "--plot", folder / "evidence.png")
    assert done.exit_code == 0, done.stderr
    assert "people: 8 questions, 8 gold sentences, each among 5 others" in done.stdout
    assert "40 tokens" in done.stdout
    assert "how far lexical is ahead" in done.stdout
    rows = (folder / "rows.jsonl").read_text()
    assert len(rows.splitlines()) == 8
    report = json.loads(evidence(folder, *words, "--json").stdout)
    assert (folder / "rows.jsonl").read_text() == rows
    assert report["seed"] == 0
    assert report["versions"]["torch"]
    assert list(report["sets"]["people"]["methods"]["lexical"]["budgets"]) == ["0.1", "0.3", "40"]
    assert (folder / "evidence.png").read_bytes().startswith(b"\x89PNG")


def test_rows_of_a_method_whose_file_was_edited_are_not_continued(folder, monkeypatch):
    code = "from tamis.compressors.methods.lead import Lead\n\n\nclass Mine(Lead):\n    pass\n"
    entry = {"tamis.methods": {"mine": "tamis_mine:Mine"}}
    install_package(folder, monkeypatch, "tamis-mine", code, entry)
    words = ("--results", folder / "rows.jsonl", "--methods", "mine,lexical")
    try:
        first = evidence(folder, *words)
        assert first.exit_code == 0, first.stderr
        assert evidence(folder, *words).stdout == first.stdout
        rows = (folder / "rows.jsonl").read_text()
        (folder / "tamis-mine/tamis_mine.py").write_text(code + "# edited\n", "utf8")
        done = evidence(folder, *words)
    finally:
        forget_plugins()
    assert done.exit_code == 2
    assert "rows.jsonl was made with code_sha256 {'lexical': " in " ".join(done.stderr.split())
    assert (folder / "rows.jsonl").read_text() == rows


def test_the_code_of_a_blend_is_that_of_its_parts_and_of_fusion():
    hashes = code_hashes(["lead", "bm25+minilm", "lexical"])
    assert set(hashes) == {"lead", "lexical", "embedding", "fusion"}
    assert len(set(hashes.values())) == 4


def test_the_same_command_gives_the_same_figures(folder):
    def once():
        found = json.loads(evidence(folder, "--json").stdout)["sets"]["people"]
        return [of["budgets"] for of in found["methods"].values()]

    assert once() == once()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--budgets", "0.1,lots"), "give numbers with commas"),
        (("--budgets", "0"), "ratio is 0"),
        (("--methods", "lexicl"), "did you mean 'lexical'"),
        (("--methods", ","), "name at least one"),
        (("--sets", "persons"), "there are: people"),
        (("--data", "nowhere"), "give --data"),
        (("--results", "{folder}/people.jsonl"), "is not beside it"),
        (("--plot", "{folder}/no/such/folder.png"), "cannot be written"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(folder, words, message):
    done = evidence(folder, *(word.format(folder=folder) for word in words))
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())


def test_a_table_shows_shares_and_the_lead_of_the_reference_with_its_interval():
    cell = {"gold_kept": 0.9214, "all_gold_kept": 0.8}
    ahead = {"difference": 0.03, "low": 0.0101, "high": 0.052}
    methods = {
        "question_rows": {"median_ms": 12.34, "cached_cases": 3, "budgets": {"0.1": cell}},
        "lead": {
            "median_ms": 0.01,
            "cached_cases": 0,
            "budgets": {"0.1": {**cell, "reference_gold_ahead": ahead}},
        },
    }
    found = {"reference": "question_rows", "records": 2, "gold_sentences": 3, "distractors": 0}
    found["methods"] = methods
    console = Console(width=90)
    with console.capture() as captured:
        console.print(evidence_table("some_set", found))
    shown = " ".join(captured.get().split())
    assert "92.1 (80.0)" in shown
    assert "+3.0 [1.0, 5.2]" in shown
    assert "12.3*" in shown


def test_plots_without_matplotlib_name_the_extra_before_anything_is_measured(folder, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    done = evidence(folder, "--plot", folder / "out.png")
    assert done.exit_code == 2
    assert "pip install matplotlib" in done.stderr
    assert not (folder / "out").exists()
