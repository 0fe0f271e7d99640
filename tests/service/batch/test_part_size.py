"""The size of parts where none is given."""

from __future__ import annotations

import os

from tamis.service.batch.plan import (
    BYTES_A_TOKEN,
    MAX_BYTES,
    MAX_PARTS,
    PROXY_TOKENS_A_SECOND,
    default_part_bytes,
    input_bytes,
)
from tamis.service.files.input_files import find_input_files
from tests.service.batch.kit import rows, write_lines


def test_a_part_that_a_model_reads_costs_under_a_minute_of_one_core():
    for given in (0, 10_000_000, 10_000_000_000):
        seconds = default_part_bytes(True, given) / BYTES_A_TOKEN / PROXY_TOKENS_A_SECOND
        assert 30 < seconds < 60


def test_a_huge_input_has_no_more_parts_than_a_plan_may_hold_and_none_over_the_limit():
    assert default_part_bytes(True, MAX_PARTS * 1_000_000) == 1_000_000
    assert default_part_bytes(True, 10**13) == MAX_BYTES
    assert default_part_bytes(False, 10) == MAX_BYTES


def test_the_input_counts_files_of_rows_and_texts(tmp_path):
    lines = write_lines(tmp_path / "in.jsonl", rows(3))
    (tmp_path / "a.txt").write_text("x" * 70)
    size = lines.stat().st_size
    assert input_bytes(find_input_files([str(tmp_path)])) == size + 70


def test_what_is_no_regular_file_is_passed_over_and_named(tmp_path):
    (tmp_path / "a.txt").write_text("Text.")
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.txt")
    (found,) = find_input_files([str(tmp_path)])
    assert (found.names, [*found.passed_over]) == (("a.txt",), ["gone.txt", "pipe.txt"])
