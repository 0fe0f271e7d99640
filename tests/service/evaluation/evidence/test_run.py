"""`tamis bench run`: result lines that can be judged, resumed and trusted."""

from __future__ import annotations

import json
import os
import re

import pytest
from typer.testing import CliRunner

from tamis.probes.errors import BadInput
from tamis.probes.tokens import TextTokenizer
from tamis.service.cli.bench.app import app
from tamis.service.cli.bench.evidence import usual_methods
from tamis.service.cli.options.bench_options import RECORDS
from tamis.service.evaluation.evidence import run as bench
from tests.service.cli.cli_kit import tamis as run
from tests.service.evaluation.records import counting_folder, doc, people, read, record, write


@pytest.fixture
def place(tmp_path):
    """A folder with records and a counter."""
    counting_folder(tmp_path / "proxy")
    write(tmp_path / "records.jsonl", people())
    return tmp_path


def tamis(place, *words: object, method: str = "lexical", keep: object = 0.5):
    given = [
        "run",
        place / "records.jsonl",
        "--out",
        place / "out.jsonl",
        "--proxy",
        place / "proxy",
    ]
    given += ["--method", method, "--keep", keep, *words]
    return CliRunner().invoke(app, [str(word) for word in given])


def without_time(rows):
    return [{key: value for key, value in row.items() if key != "ms"} for row in rows]


def test_kept_spans_are_of_the_documents_own_text_and_within_the_budget(place):
    assert tamis(place, keep=0.4).exit_code == 0
    rows, records = read(place / "out.jsonl"), people()
    assert [row["id"] for row in rows] == [r["id"] for r in records]
    for row, one in zip(rows, records, strict=True):
        kept = [one["docs"][d]["text"][a:b] for d, a, b in row["kept"]]
        assert any("does live in" in text for text in kept)
        assert 0 < row["tokens_after"] <= 0.4 * row["tokens_before"]
        assert row["ms"] > 0
        assert len(row["doc_scores"]) == 1


def test_tokens_are_the_proxys_and_a_keep_above_one_is_whole_tokens(place):
    counter = TextTokenizer.from_file(place / "proxy")
    tamis(place, keep=40)
    for row, one in zip(read(place / "out.jsonl"), people(), strict=True):
        assert row["tokens_before"] == counter.count(one["docs"][0]["text"])
        assert row["tokens_after"] <= 40


def test_a_context_that_fits_is_kept_whole_and_has_no_scores(place):
    tamis(place, keep=10_000)
    for row, one in zip(read(place / "out.jsonl"), people(), strict=True):
        assert row["kept"] == [[0, 0, len(one["docs"][0]["text"])]]
        assert row["doc_scores"] == [None]


@pytest.mark.parametrize("keep", [0, -1, 1.5, "nan", "inf"])
def test_a_keep_that_is_no_budget_is_refused_before_anything_is_written(place, keep):
    done = tamis(place, keep=keep)
    assert done.exit_code == 2
    assert not (place / "out.jsonl").exists()


def test_a_run_that_was_killed_in_a_line_goes_on_to_the_same_file(place):
    tamis(place)
    whole = read(place / "out.jsonl")
    lines = (place / "out.jsonl").read_bytes().splitlines(keepends=True)
    (place / "out.jsonl").write_bytes(b"".join(lines[:3]) + lines[3][:20])
    done = tamis(place)
    assert without_time(read(place / "out.jsonl")) == without_time(whole)
    assert read(place / "out.jsonl")[:3] == whole[:3]
    assert "5 records done, 3 were there before" in done.stderr


def test_a_last_line_without_its_line_break_is_done_again(place):
    tamis(place)
    (place / "out.jsonl").write_bytes((place / "out.jsonl").read_bytes()[:-1])
    assert "1 records done, 7 were there" in tamis(place).stderr
    assert len(read(place / "out.jsonl")) == 8


def test_each_line_is_on_disk_before_the_next_record_is_read(place):
    settings = bench.RunSettings(keep=0.5, method="lead")
    records = bench.load_run_records(place / "records.jsonl", settings)
    results = bench.ResultFile(place / "out.jsonl", bench.fingerprint(settings, records))
    from tamis.compressors.methods.lead import Lead
    from tamis.compressors.pipeline.compression import Compressor

    built = Compressor(Lead(), "lead", TextTokenizer.from_file(place / "proxy"))
    for count, _ in enumerate(bench.compress_records(records, built, settings, results), 1):
        assert len(read(place / "out.jsonl")) == count


def test_a_larger_limit_adds_to_what_is_there(place):
    tamis(place, "--limit", 2)
    first = read(place / "out.jsonl")
    tamis(place, "--limit", 5)
    assert read(place / "out.jsonl")[:2] == first
    assert [row["id"] for row in read(place / "out.jsonl")] == ["r0", "r1", "r2", "r3", "r4"]


@pytest.mark.parametrize(
    "other", [("--keep", 0.3), ("--method", "lead"), ("--distractors", 2), ("--language", "de")]
)
def test_results_of_other_settings_are_not_added_to(place, other):
    tamis(place)
    before = (place / "out.jsonl").read_bytes()
    done = tamis(place, *other)
    assert done.exit_code == 2
    assert f"{other[0].removeprefix('--')} " in done.stderr
    assert str(other[1]) in done.stderr
    assert (place / "out.jsonl").read_bytes() == before


def test_results_of_other_records_are_not_added_to(place):
    tamis(place)
    write(place / "records.jsonl", people()[:7])
    done = tamis(place)
    assert done.exit_code == 2
    assert "records_sha256" in done.stderr


def test_what_is_no_ordinary_file_is_refused_before_anything_is_read_of_it(tmp_path):
    """Whoever reads on in a pipe, or in /dev/full, where a run was cut short waits for ever."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadInput, match="pipe is no ordinary file"):
        bench.ResultFile(tmp_path / "pipe", {})
    assert not (tmp_path / "pipe.meta.json").exists()


def test_a_file_without_its_settings_is_not_added_to(place):
    (place / "out.jsonl").write_text('{"id": "mine"}\n')
    done = tamis(place)
    assert done.exit_code == 2
    assert (place / "out.jsonl").read_text() == '{"id": "mine"}\n'


def test_a_record_that_is_refused_is_a_line_with_its_error_and_the_run_goes_on(place):
    refused = record("empty question", " ", doc("Any sentence.", gold=[0]))
    write(place / "records.jsonl", [people()[0], refused, people()[1]])
    done = tamis(place)
    assert done.exit_code == 0
    rows = read(place / "out.jsonl")
    assert rows[1]["error"].startswith("BadInput: the question is empty")
    assert rows[1]["kept"] == []
    assert rows[2]["kept"]
    assert "1 with errors" in done.stderr
    assert "1 with errors" in tamis(place).stderr


def test_distractors_depend_on_the_seed_and_on_nothing_else(place):
    tamis(place, "--distractors", 3, "--gold-out", place / "all.jsonl")
    (place / "out.jsonl").unlink()
    tamis(place, "--distractors", 3, "--limit", 2, "--gold-out", place / "two.jsonl")
    assert read(place / "two.jsonl") == read(place / "all.jsonl")[:2]
    (place / "out.jsonl").unlink()
    tamis(place, "--distractors", 3, "--seed", 1, "--gold-out", place / "other.jsonl")
    assert read(place / "other.jsonl") != read(place / "all.jsonl")


def test_the_gold_file_holds_the_records_that_the_spans_are_of(place):
    tamis(place, "--distractors", 3, "--gold-out", place / "gold.jsonl", keep=0.2)
    rows, gold = read(place / "out.jsonl"), read(place / "gold.jsonl")
    for row, one, original in zip(rows, gold, people(), strict=True):
        assert row["id"] == one["id"]
        assert len(one["docs"]) == len(row["doc_scores"]) == 4
        marked = [d for d in one["docs"] if d["gold"]]
        assert [d["text"] for d in marked] == [original["docs"][0]["text"]]
        for d, a, b in row["kept"]:
            assert one["docs"][d]["text"][a:b].strip()


@pytest.mark.parametrize("file", ["records.jsonl", "out.jsonl"])
def test_the_gold_file_never_replaces_the_records_or_the_results(place, file):
    done = tamis(place, "--gold-out", place / file)
    assert done.exit_code == 2
    assert read(place / "records.jsonl") == people()


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"question": "a", "docs": []}], "its id is None"),
        ([record("a", "q"), record("a", "q")], "record 2: its id is 'a'"),
        ([record("a", "q", {"title": "no text"})], "document 0 has no 'text'"),
        ([record("a", "q", "text")], "document 0 has no 'text'"),
    ],
)
def test_records_that_cannot_be_told_apart_or_read_are_named(place, rows, says):
    write(place / "records.jsonl", rows)
    done = tamis(place)
    assert done.exit_code == 2
    assert says in done.stderr


def test_each_record_is_segmented_in_its_own_language_unless_one_is_given():
    assert bench.language_of({"lang": "zh"}) == "zh"
    assert bench.language_of({}) == "en"
    assert bench.language_of({"lang": "zh"}, "de") == "de"


def test_a_title_is_read_but_not_counted(place):
    bare = [{**r, "docs": [{**d, "title": None} for d in r["docs"]]} for r in people()]
    tamis(place)
    titled = [row["tokens_before"] for row in read(place / "out.jsonl")]
    write(place / "records.jsonl", bare)
    tamis(place, "--out", place / "bare.jsonl")
    assert [row["tokens_before"] for row in read(place / "bare.jsonl")] == titled


def test_the_settings_beside_the_results_say_how_they_were_made(place):
    tamis(place, "--seed", 4)
    card = json.loads((place / "out.jsonl.meta.json").read_text())
    assert (card["method"], card["keep"], card["seed"]) == ("lexical", 0.5, 4)


def test_the_record_that_help_shows_is_one(tmp_path):
    """As its reader copies it: the line of the help, in a file of their own."""
    (shown,) = re.findall(r"^`(\{\"id\".*?\})`$", RECORDS, re.MULTILINE | re.DOTALL)
    text = shown.replace("\n", " ")  # one passage each, so seven: five are put beside each
    rows = [json.loads(text.replace("90", f"9{i}")) | {"id": f"{i}"} for i in range(7)]
    write(tmp_path / "mine.jsonl", rows)
    words = ("--data", tmp_path, "--sets", "mine", "--methods", "lexical", "--budgets", "0.6")
    done = run("bench", "evidence", *words, "--json", tmp_path / "found.json")
    assert done.exit_code == 0, done.output
    (found,) = json.loads((tmp_path / "found.json").read_text())["sets"].values()
    assert found["gold_sentences"] == 7
    done = run(
        "bench", "run", tmp_path / "mine.jsonl", "--method", "lexical", "--keep", "0.6",
        "--out", tmp_path / "out.jsonl", "--language", "en",
    )  # fmt: skip
    assert done.exit_code == 0, done.output


def test_the_usual_methods_are_those_that_know_the_proxy(capsys):
    assert "sentinel" in usual_methods("smollm2-135m")
    assert capsys.readouterr().err == ""
    assert "sentinel" not in usual_methods("smollm2-135m-sharp")
    assert "left out: sentinel" in capsys.readouterr().err
