"""Calls that would fail for every row: refused in one sentence, before any row is read."""

from __future__ import annotations

import pyarrow.parquet
import pytest

from tests.service.batch.kit import QUERY, assert_refused, read_rows, rows, write_lines


@pytest.mark.parametrize("name", ["nope", "hex", "a\0b", ""])
def test_an_encoding_that_does_not_exist_is_refused(free, tmp_path, name):
    source = write_lines(tmp_path / "in.jsonl", rows(2))
    out = tmp_path / "out"
    assert_refused(free.run(source, "-o", out, "--encoding", name), "there is no encoding", out)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--id-field", "status"), "['status'], which are added to every row"),
        (("--id-field", "raw"), "['raw'], which are added to every row"),
        (("--context-field", "error"), "['error'], which are added to every row"),
        (("--id-field", "t_spans", "--prefix", "t_"), "['t_spans']"),
        (("--id-field", "context"), "--id-field and --context-field are both 'context'"),
        (("--id-field", "documents"), "--id-field and --documents-field are both 'documents'"),
        (("--id-field", "x", "--history-field", "x"), "--id-field and --history-field are both"),
    ],
)
def test_the_field_for_a_text_files_name_must_be_free(free, tmp_path, words, message):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.txt").write_text("Malo was closed. " * 20)
    out = tmp_path / "out"
    assert_refused(free.run(tmp_path / "in", "-o", out, "-q", QUERY, *words), message, out)
    free.run_to_end(
        tmp_path / "in", "-o", out, "-q", QUERY, "--id-field", "status", "--prefix", "t_"
    )
    (got,) = read_rows(out)
    assert (got["status"], got["t_status"]) == ("a.txt", "ok")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--protect", "("), "'(', which is no regular expression"),
        (("--citations", "{x}"), "citations is '{x}' and 'x' is no field"),
        (("--top-n", "0"), "top_n is 0"),
        (("--dedup", "3"), "dedup is 3"),
        (("--context-window", "-1"), "context_window is -1"),
        (("--granularity", "token"), "lexical scores sentences, not words"),
        (("--answerable-floor", "3"), "answerable_floor is 3"),
        (("--if-unanswerable", "nothing"), "lexical cannot tell whether"),
        (("--method", "edges"), "is a method of ordering"),
    ],
)
def test_rules_that_no_row_can_follow_are_refused_before_any_is_read(
    free, tmp_path, words, message
):
    source = write_lines(tmp_path / "in.jsonl", ["{broken"])
    free.options = (*free.options, *words)
    assert_refused(
        free.run(source, "-o", tmp_path / "out", "--proxy", "auto"), message, tmp_path / "out"
    )


@pytest.mark.parametrize(
    ("method", "words", "message"),
    [
        ("lexical", ("--threshold", ".5"), "lexical gives no probabilities"),
        ("lead", ("--threshold", "0"), "lead gives no probabilities"),
        ("lexical", ("--coverage", ".9"), "lexical has no calibrated coverage"),
        ("infiniretri", ("--coverage", ".9"), "infiniretri has no calibrated coverage"),
    ],
)
def test_a_probability_is_accepted_only_for_methods_that_give_one(
    free, tmp_path, method, words, message
):
    source = write_lines(tmp_path / "in.jsonl", rows(2))
    free.options = ("--method", method, *words)
    assert_refused(free.run(source, "-o", tmp_path / "out"), message, tmp_path / "out")


def test_a_file_is_no_output_folder(free, tmp_path):
    source = write_lines(tmp_path / "in.jsonl", rows(2))
    text = source.read_text("utf-8")
    done = free.run(source, "-o", source, "--dry-run")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "in.jsonl is a file; name a folder" in done.stderr
    assert source.read_text("utf-8") == text


def test_a_table_whose_columns_share_a_name_is_refused(free, tmp_path):
    """One of them would be lost."""
    names = ["question", "context", "context"]
    table = pyarrow.table([["Where?"], ["In Malo."], ["At sea."]], names=names)
    pyarrow.parquet.write_table(table, tmp_path / "in.parquet")
    out = tmp_path / "out"
    assert_refused(free.run(tmp_path / "in.parquet", "-o", out), "columns 'context'; write", out)


def test_gpus_of_workers_are_for_ray_alone(free, tmp_path):
    source = write_lines(tmp_path / "in.jsonl", rows(1))
    done = free.run(source, "-o", tmp_path / "out", "--gpus-per-worker", 1)
    assert_refused(done, "give --engine ray, or leave --gpus-per-worker out", tmp_path / "out")
