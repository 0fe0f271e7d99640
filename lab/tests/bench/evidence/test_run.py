"""`tamis lab bench run`: result lines that can be judged, resumed and trusted."""

from __future__ import annotations

import json
import os
import re

import pytest
from typer.testing import CliRunner

from lab.tests.bench.records import counting_folder, doc, people, read, record, write
from tamis.probes.errors import BadInput
from tamis.probes.tokens import TextTokenizer
from tamis_lab.app import app
from tamis_lab.bench import run as bench
from tamis_lab.bench.evidence import usual_methods
from tamis_lab.bench.study import Study
from tamis_lab.datasets.result_file import ResultFile
from tamis_lab.options.shared import RECORDS
from tests.service.cli.cli_kit import tamis as run


@pytest.fixture
def folder(tmp_path):
    """A folder with records and a counter."""
    counting_folder(tmp_path / "proxy")
    write(tmp_path / "records.jsonl", people())
    return tmp_path


def tamis(folder, *words: object, method: str = "lexical", keep: object = 0.5):
    given = [
        "run",
        folder / "records.jsonl",
        "--out",
        folder / "out.jsonl",
        "--proxy",
        folder / "proxy",
    ]
    given += ["--method", method, "--keep", keep, *words]
    return CliRunner().invoke(app, ["bench", *map(str, given)])


def without_time(rows):
    return [{key: value for key, value in row.items() if key != "ms"} for row in rows]


def test_kept_spans_are_of_the_documents_own_text_and_within_the_budget(folder):
    assert tamis(folder, keep=0.4).exit_code == 0
    rows, records = read(folder / "out.jsonl"), people()
    assert [row["id"] for row in rows] == [r["id"] for r in records]
    for row, one in zip(rows, records, strict=True):
        kept = [one["docs"][d]["text"][a:b] for d, a, b in row["kept"]]
        assert any("does live in" in text for text in kept)
        assert 0 < row["tokens_after"] <= 0.4 * row["tokens_before"]
        assert row["ms"] > 0
        assert len(row["doc_scores"]) == 1


def test_tokens_are_the_proxys_and_a_keep_above_one_is_whole_tokens(folder):
    counter = TextTokenizer.from_file(folder / "proxy")
    tamis(folder, keep=40)
    for row, one in zip(read(folder / "out.jsonl"), people(), strict=True):
        assert row["tokens_before"] == counter.count(one["docs"][0]["text"])
        assert row["tokens_after"] <= 40


def test_a_context_that_fits_is_kept_whole_and_has_no_scores(folder):
    tamis(folder, keep=10_000)
    for row, one in zip(read(folder / "out.jsonl"), people(), strict=True):
        assert row["kept"] == [[0, 0, len(one["docs"][0]["text"])]]
        assert row["doc_scores"] == [None]


@pytest.mark.parametrize("keep", [0, -1, 1.5, "nan", "inf"])
def test_a_keep_that_is_no_budget_is_refused_before_anything_is_written(folder, keep):
    done = tamis(folder, keep=keep)
    assert done.exit_code == 2
    assert not (folder / "out.jsonl").exists()


def test_a_run_killed_within_a_line_is_resumed_to_the_same_file(folder):
    tamis(folder)
    whole = read(folder / "out.jsonl")
    lines = (folder / "out.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "out.jsonl").write_bytes(b"".join(lines[:3]) + lines[3][:20])
    done = tamis(folder)
    assert without_time(read(folder / "out.jsonl")) == without_time(whole)
    assert read(folder / "out.jsonl")[:3] == whole[:3]
    assert "5 rows measured, 3 were there before" in done.stderr


def test_a_last_line_without_its_line_break_is_done_again(folder):
    tamis(folder)
    (folder / "out.jsonl").write_bytes((folder / "out.jsonl").read_bytes()[:-1])
    assert "1 rows measured, 7 were there" in tamis(folder).stderr
    assert len(read(folder / "out.jsonl")) == 8


def test_each_line_is_on_disk_before_the_next_record_is_read(folder):
    settings = bench.RunSettings(keep=0.5, method="lead")
    records = bench.load_run_records(folder / "records.jsonl", settings)
    study = Study(results=folder / "out.jsonl")
    study.keep_rows(bench.fingerprint(settings, records), "id")
    from tamis.compressors.methods.lead import Lead
    from tamis.compressors.pipeline.compression import Compressor

    built = Compressor(Lead(), "lead", TextTokenizer.from_file(folder / "proxy"))
    counts = []

    def measure(record):
        counts.append(len(read(folder / "out.jsonl")))
        return bench.result_row(record, built, settings)

    study.rows("records", {row["id"]: row for row in records}, measure)
    assert counts == list(range(len(records)))


def test_a_larger_limit_appends_to_the_results(folder):
    tamis(folder, "--limit", 2)
    first = read(folder / "out.jsonl")
    tamis(folder, "--limit", 5)
    assert read(folder / "out.jsonl")[:2] == first
    assert [row["id"] for row in read(folder / "out.jsonl")] == ["r0", "r1", "r2", "r3", "r4"]


@pytest.mark.parametrize(
    "other", [("--keep", 0.3), ("--method", "lead"), ("--distractors", 2), ("--language", "de")]
)
def test_results_of_other_settings_are_not_appended_to(folder, other):
    tamis(folder)
    before = (folder / "out.jsonl").read_bytes()
    done = tamis(folder, *other)
    assert done.exit_code == 2
    assert f"{other[0].removeprefix('--')} " in done.stderr
    assert str(other[1]) in done.stderr
    assert (folder / "out.jsonl").read_bytes() == before


def test_results_of_other_records_are_not_appended_to(folder):
    tamis(folder)
    write(folder / "records.jsonl", people()[:7])
    done = tamis(folder)
    assert done.exit_code == 2
    assert "records_sha256" in done.stderr


def test_a_pipe_is_refused_before_anything_is_read_from_it(tmp_path):
    """Resuming a run from a pipe, or from /dev/full, would wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadInput, match="pipe is no ordinary file"):
        ResultFile(tmp_path / "pipe", {})
    assert not (tmp_path / "pipe.meta.json").exists()


def test_a_file_without_its_settings_is_not_appended_to(folder):
    (folder / "out.jsonl").write_text('{"id": "mine"}\n')
    done = tamis(folder)
    assert done.exit_code == 2
    assert (folder / "out.jsonl").read_text() == '{"id": "mine"}\n'


def test_a_record_that_is_refused_is_a_line_with_its_error_and_the_run_continues(folder):
    refused = record("empty question", " ", doc("Any sentence.", gold=[0]))
    write(folder / "records.jsonl", [people()[0], refused, people()[1]])
    done = tamis(folder)
    assert done.exit_code == 0
    rows = read(folder / "out.jsonl")
    assert rows[1]["error"].startswith("BadInput: the question is empty")
    assert rows[1]["kept"] == []
    assert rows[2]["kept"]
    assert "1 with errors" in done.stderr
    assert "1 with errors" in tamis(folder).stderr


def test_distractors_depend_on_the_seed_and_on_nothing_else(folder):
    tamis(folder, "--distractors", 3, "--gold-out", folder / "all.jsonl")
    (folder / "out.jsonl").unlink()
    tamis(folder, "--distractors", 3, "--limit", 2, "--gold-out", folder / "two.jsonl")
    assert read(folder / "two.jsonl") == read(folder / "all.jsonl")[:2]
    (folder / "out.jsonl").unlink()
    tamis(folder, "--distractors", 3, "--seed", 1, "--gold-out", folder / "other.jsonl")
    assert read(folder / "other.jsonl") != read(folder / "all.jsonl")


def test_the_gold_file_holds_the_records_that_the_spans_are_of(folder):
    tamis(folder, "--distractors", 3, "--gold-out", folder / "gold.jsonl", keep=0.2)
    rows, gold = read(folder / "out.jsonl"), read(folder / "gold.jsonl")
    for row, one, original in zip(rows, gold, people(), strict=True):
        assert row["id"] == one["id"]
        assert len(one["docs"]) == len(row["doc_scores"]) == 4
        marked = [d for d in one["docs"] if d["gold"]]
        assert [d["text"] for d in marked] == [original["docs"][0]["text"]]
        for d, a, b in row["kept"]:
            assert one["docs"][d]["text"][a:b].strip()


@pytest.mark.parametrize("file", ["records.jsonl", "out.jsonl"])
def test_the_gold_file_never_replaces_the_records_or_the_results(folder, file):
    done = tamis(folder, "--gold-out", folder / file)
    assert done.exit_code == 2
    assert read(folder / "records.jsonl") == people()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"question": "a", "docs": []}], "its id is None"),
        ([record("a", "q"), record("a", "q")], "record 2: its id is 'a'"),
        ([record("a", "q", {"title": "no text"})], "document 0 has no 'text'"),
        ([record("a", "q", "text")], "document 0 has no 'text'"),
    ],
)
def test_records_without_distinct_ids_or_texts_are_named(folder, rows, message):
    write(folder / "records.jsonl", rows)
    done = tamis(folder)
    assert done.exit_code == 2
    assert message in done.stderr


def test_each_record_is_segmented_in_its_own_language_unless_one_is_given():
    assert bench.language_of({"lang": "zh"}) == "zh"
    assert bench.language_of({}) == "en"
    assert bench.language_of({"lang": "zh"}, "de") == "de"


def test_a_title_is_read_but_not_counted(folder):
    bare = [{**r, "docs": [{**d, "title": None} for d in r["docs"]]} for r in people()]
    tamis(folder)
    titled = [row["tokens_before"] for row in read(folder / "out.jsonl")]
    write(folder / "records.jsonl", bare)
    tamis(folder, "--out", folder / "bare.jsonl")
    assert [row["tokens_before"] for row in read(folder / "bare.jsonl")] == titled


def test_the_settings_of_a_run_are_beside_its_results(folder):
    tamis(folder, "--seed", 4)
    card = json.loads((folder / "out.jsonl.meta.json").read_text())
    assert (card["method"], card["keep"], card["seed"]) == ("lexical", 0.5, 4)


def test_the_record_in_the_help_text_is_valid(tmp_path):
    """As a user copies it: the line of the help text, in a file."""
    (shown,) = re.findall(r"^`(\{\"id\".*?\})`$", RECORDS, re.MULTILINE | re.DOTALL)
    text = shown.replace("\n", " ")  # one passage each, so seven: five are put beside each
    rows = [json.loads(text.replace("90", f"9{i}")) | {"id": f"{i}"} for i in range(7)]
    write(tmp_path / "mine.jsonl", rows)
    words = ("--data", tmp_path, "--sets", "mine", "--methods", "lexical", "--budgets", "0.6")
    done = run("lab", "bench", "evidence", *words, "--json")
    assert done.exit_code == 0, done.output
    (found,) = json.loads(done.stdout)["sets"].values()
    assert found["gold_sentences"] == 7
    done = run(
        "lab", "bench", "run", tmp_path / "mine.jsonl", "--method", "lexical", "--keep", "0.6",
        "--out", tmp_path / "out.jsonl", "--language", "en",
    )  # fmt: skip
    assert done.exit_code == 0, done.output


def test_the_usual_methods_are_those_with_a_probe_for_the_proxy(capsys):
    assert "sentinel" in usual_methods("smollm2-135m")
    assert capsys.readouterr().err == ""
    assert "sentinel" not in usual_methods("smollm2-135m-sharp")
    assert "left out: sentinel" in capsys.readouterr().err
