"""What benchmarks refuse before anything is read: targets, damaged books, unused weights."""

from __future__ import annotations

import gzip

import pytest

from tamis.probes.errors import BadInput
from tamis_lab.datasets.records import read_text
from tamis_lab.options.output_files import check_probe_target, check_targets
from tamis_lab.train.commands.rank import parse_weights
from tests.service.cli.cli_kit import tamis


@pytest.mark.parametrize(
    "words",
    [
        ("sinks", "--data", "nowhere", "--plot", "no/where.png"),
        ("needle", "--text", "nowhere.txt", "--plot", "no/where.png"),
        ("languages", "--data", "nowhere", "--results", "no/where.jsonl"),
        ("peers", "--data", "nowhere", "--plot", "no/where.png"),
        ("speed", "--text", "nowhere.txt", "--plot", "no/where.png"),
        ("depth", "--data", "a", "--judge", "b", "--plot", "no/where.png"),
        ("answers", "--data", "nowhere", "--results", "no/where.jsonl"),
        ("answers", "--data", "nowhere", "--plot", "no/where.png"),
        ("rerank", "nowhere.jsonl", "--corpus", "c", "--results", "no/where.jsonl"),
        ("ranking", "--data", "nowhere", "--results", "no/where.jsonl"),
        ("run", "nowhere.jsonl", "--out", "no/where.jsonl"),
        ("evidence", "--data", "nowhere", "--results", "no/where.jsonl"),
        ("tools", "--data", "nowhere", "--results", "no/where.jsonl"),
    ],
)
def test_a_target_that_cannot_be_written_is_refused_before_anything_is_read(words):
    done = tamis("lab", "bench", *words)
    assert done.exit_code == 2, done.output
    assert f"{words[-1]} cannot be written: there is no folder no" in done.stderr


def test_targets_may_exist_and_a_probes_folder_is_made(tmp_path):
    (tmp_path / "there.json").write_text("")
    check_targets(None, tmp_path / "there.json", tmp_path / "new.json")
    with pytest.raises(BadInput, match="it is a folder"):
        check_targets(tmp_path)
    check_probe_target(tmp_path / "new" / "folder" / "p")
    with pytest.raises(BadInput, match="cannot be written"):
        check_probe_target(tmp_path / "there.json" / "p")


def test_a_damaged_book_is_named(tmp_path):
    whole = gzip.compress(b"Once upon a time. " * 500)
    for name, data in (("short", whole[:40]), ("foul", whole[:20] + b"\xff" * 20 + whole[40:])):
        (tmp_path / f"{name}.gz").write_bytes(data)
        with pytest.raises(BadInput, match=f"{name}.gz is damaged"):
            read_text(tmp_path / f"{name}.gz")


def test_weights_are_whole_numbers_for_files_that_are_read():
    assert parse_weights(["a=3"], ["a", "b"]) == {"a": 3}
    with pytest.raises(BadInput, match="for 'nosuch'; the files are a, b"):
        parse_weights(["nosuch=3"], ["a", "b"])
    with pytest.raises(BadInput, match="give FILE=N"):
        parse_weights(["a=0"], ["a"])
