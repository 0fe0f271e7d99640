"""Interrupted, failed and sharded batches: every row is there once, and nothing is done twice."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tamis.compressors.rules import Budget
from tamis.service.batch import run as batch_run
from tamis.service.batch.job import BatchJob, PartLimits
from tamis.service.batch.output import OutputFolder
from tamis.service.files.input_files import find_input_files
from tests.chaos.batch import kill_repeatedly
from tests.service.batch.kit import part_bytes, read_rows, rows, write_lines
from tests.service.cli.cli_kit import SCRIPT, tamis, word_tokenizer


def test_a_run_that_is_killed_and_resumed_ends_as_an_undisturbed_one(tmp_path):
    """Two kills here; `make chaos` does fifty."""
    report = kill_repeatedly(tmp_path, kills=2, seed=7)
    assert report.same
    assert report.killed == 2
    assert report.between_parts >= 1


def test_what_is_done_is_not_done_again(free, tmp_path):
    source = write_lines(tmp_path / "in.jsonl", rows(10))
    free.run_to_end(source, "-o", tmp_path / "out")
    first, times = part_bytes(tmp_path / "out"), _times(tmp_path / "out")
    (tmp_path / "out/part-000001.jsonl").unlink()
    again = free.run_to_end(source, "-o", tmp_path / "out")
    assert "2 of 3 parts are done already" in again.stderr
    assert part_bytes(tmp_path / "out") == first
    changed = [name for name, when in _times(tmp_path / "out").items() if when != times[name]]
    assert changed == ["part-000001.jsonl"]


def _times(out):
    return {path.name: path.stat().st_mtime_ns for path in out.glob("part-*")}


def test_an_incomplete_receipt_or_part_costs_only_its_part(free, tmp_path):
    source = write_lines(tmp_path / "in.jsonl", rows(10))
    free.run_to_end(source, "-o", tmp_path / "out")
    first = part_bytes(tmp_path / "out")
    (tmp_path / "out/_done/part-000002.json").write_text('{"part": 2, "ro')
    (tmp_path / "out/.part-000002.jsonl.0a1b.tmp").write_text("half")
    (tmp_path / "out/part-000001.jsonl").write_text("half")
    free.run_to_end(source, "-o", tmp_path / "out")
    assert part_bytes(tmp_path / "out") == first
    assert not list((tmp_path / "out").glob(".*.tmp"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--context-window", 1), "--context-window was 0 and is 1"),
        (("--part-rows", 5), "--part-rows was 4 and is 5"),
        (("--id-field", "name"), "--id-field was 'id' and is 'name'"),
        (("--language", "de"), "language was 'auto' and is 'de'"),
        (("--method", "lead"), "method was 'lexical' and is 'lead'"),
    ],
)
def test_another_batch_is_refused_with_what_differs(free, tmp_path, change, message):
    source = write_lines(tmp_path / "in.jsonl", rows(5))
    free.run_to_end(source, "-o", tmp_path / "out")
    first = part_bytes(tmp_path / "out")
    free.options = (*free.options, *change)
    refused = free.run(source, "-o", tmp_path / "out")
    assert refused.exit_code == 2
    assert message in refused.stderr
    assert "--overwrite" in refused.stderr
    assert part_bytes(tmp_path / "out") == first
    free.run_to_end(source, "-o", tmp_path / "out", "--overwrite")


def test_another_batch_that_is_written_during_the_survey_is_refused_too(
    free, tmp_path, monkeypatch
):
    """Two runs are started at once; the other one is faster."""
    source, out = write_lines(tmp_path / "in.jsonl", rows(5)), tmp_path / "out"
    survey, other = batch_run.survey_files, ["--context-window", 1]

    def survey_while_another_runs(*given):
        found = survey(*given)
        if other:
            words = [*free.options, *free.models, *other]
            other.clear()
            done = tamis("batch", "run", source, "-o", out, *words)
            assert done.exit_code == 0, done.stderr
        return found

    monkeypatch.setattr(batch_run, "survey_files", survey_while_another_runs)
    refused = free.run(source, "-o", out)
    assert refused.exit_code == 2
    assert "out holds another batch: --context-window was 1 and is 0" in refused.stderr
    free.run_to_end(source, "-o", out, "--context-window", 1)


def test_of_runs_that_write_their_plans_at_once_all_have_the_same(tmp_path):
    job = BatchJob(Budget(max_tokens=20), method="lexical")
    source = write_lines(tmp_path / "in.jsonl", rows(5))
    first = batch_run.make_plan(job, find_input_files([str(source)]), {})
    start, found = threading.Barrier(8), []

    def keep(number):
        output, plan = OutputFolder(str(tmp_path / "out")), replace(first, settings={"n": number})
        start.wait()
        found.append(output.keep_plan(plan).settings["n"])

    threads = [threading.Thread(target=keep, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_changed_input_is_refused_and_a_copy_of_it_is_not(free, tmp_path):
    source = write_lines(tmp_path / "in.jsonl", rows(6))
    free.run_to_end(source, "-o", tmp_path / "out")
    copy = tmp_path / "copy.jsonl"
    shutil.copy(source, copy)
    os.utime(copy, (0, 0))
    assert "2 of 2 parts are done" in free.run_to_end(copy, "-o", tmp_path / "out").stderr
    source.write_text(source.read_text().replace("cheap", "cheep"))
    refused = free.run(source, "-o", tmp_path / "out")
    assert refused.exit_code == 2
    assert "in.jsonl changed (6 rows then, 6 now)" in refused.stderr


def test_rows_that_fail_are_kept_named_and_tried_again_alone(free, tmp_path):
    broken = [
        "{not json",
        "[1]",
        json.dumps({"question": "x?"}),
        json.dumps({"question": " ", "context": "a"}),
    ]
    long = {"id": "long", "question": "a?", "context": "Word. " * 600}
    source = write_lines(tmp_path / "in.jsonl", [*rows(3), *broken, long, *rows(2)])
    limited = ("--max-input", 500)
    first = free.run_to_end(source, "-o", tmp_path / "out", *limited, status=1)
    got = read_rows(tmp_path / "out")
    assert [row["status"] == "error" for row in got] == [False] * 3 + [True] * 5 + [False] * 2
    for number, row in enumerate(got, 1):
        if row["status"] == "error":
            assert row["error"].startswith(f"{source}, line {number}: ")
            assert f"failed: {row['error']}" in first.stderr
    assert (got[3]["raw"], got[7]["context"]) == ("{not json", long["context"])
    assert "600 tokens and at most 500" in got[7]["error"]
    assert "\n4 rows cannot be used as they are, and --retry-errors alone does not" in first.stderr
    assert "\n1 rows failed; try them again with --retry-errors" in first.stderr
    before = part_bytes(tmp_path / "out")
    free.run_to_end(source, "-o", tmp_path / "out", status=1)
    assert part_bytes(tmp_path / "out") == before
    done = free.run_to_end(source, "-o", tmp_path / "out", "--retry-errors", status=1)
    assert "4 rows cannot be used" in done.stderr
    assert "rows failed" not in done.stderr
    again = read_rows(tmp_path / "out")
    assert [row["status"] for row in again[3:8]] == ["error"] * 4 + ["ok"]
    assert again[:7] + again[8:] == got[:7] + got[8:]


def test_a_row_that_fails_can_stop_the_run(free, tmp_path):
    source = write_lines(tmp_path / "in.jsonl", [*rows(5), "{not json", *rows(5)])
    stopped = free.run_to_end(source, "-o", tmp_path / "out", "--on-error", "stop", status=1)
    assert f"{source}, line 6: the line is not JSON" in stopped.stderr
    assert sorted(part_bytes(tmp_path / "out")) == ["part-000000.jsonl"]


def test_input_of_another_schema_is_refused_before_anything_is_written(free, tmp_path):
    source = write_lines(tmp_path / "in.jsonl", [{"asked": "a?", "docs": ["b"]}] * 3)
    refused = free.run(source, "-o", tmp_path / "out")
    assert refused.exit_code == 2
    assert f"{source}, line 1: there is no field 'question', but 'asked', 'docs'" in refused.stderr
    assert not (tmp_path / "out").exists()


def test_a_row_of_fifty_megabytes_is_kept_as_a_row_that_failed(free, tmp_path):
    fat = {"id": "fat", "question": "a?", "context": "Word is. " * 5_800_000}
    source = write_lines(tmp_path / "in.jsonl", [*rows(2), fat, *rows(2)])
    done = free.run_to_end(source, "-o", tmp_path / "out", "--max-input", 100_000, status=1)
    assert "line 3: the row has 52,200,002 characters, far beyond the 100,000 tokens" in done.stderr
    got = read_rows(tmp_path / "out")
    assert [row["status"] == "error" for row in got] == [False, False, True, False, False]
    assert len(got[2]["context"]) == len(fat["context"])


def test_a_full_disk_stops_cleanly_and_the_run_goes_on_once_there_is_room(free, tmp_path):
    """A limit on the size of files stands for the disk: the write fails half way through a part."""
    small, big = rows(4), rows(4, documents=200)
    source = write_lines(tmp_path / "in.jsonl", [*small, *big])
    words = ("batch", "run", source, "-o", tmp_path / "out", *free.options, *free.models)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, words)],
        preexec_fn=_little_room,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 2
    assert "part-000001.jsonl cannot be written (File too large)" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(part_bytes(tmp_path / "out")) == ["part-000000.jsonl"]
    assert not list((tmp_path / "out").glob(".*.tmp"))
    free.run_to_end(source, "-o", tmp_path / "out")
    free.run_to_end(source, "-o", tmp_path / "undisturbed")
    assert part_bytes(tmp_path / "out") == part_bytes(tmp_path / "undisturbed")


def _little_room() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))


def test_shards_make_one_output_together_or_apart(free, tmp_path):
    source = write_lines(tmp_path / "in.jsonl", rows(14))
    free.run_to_end(source, "-o", tmp_path / "one")
    for shard in ("2/3", "1/3", "3/3"):
        free.run_to_end(source, "-o", tmp_path / "shared", "--shard", shard)
        free.run_to_end(source, "-o", tmp_path / shard[0], "--shard", shard)
    assert part_bytes(tmp_path / "shared") == part_bytes(tmp_path / "one")
    apart = [tmp_path / name for name in "123"]
    missing = tamis("batch", "merge", *apart[:2], "-o", tmp_path / "all.jsonl")
    assert (missing.exit_code, (tmp_path / "all.jsonl").exists()) == (2, False)
    assert "1 of 4 parts are not there, part-000002.jsonl first" in missing.stderr
    for part in (tmp_path / "2").glob("part-*.jsonl"):
        part.rename(part.with_suffix(".away"))
    none = tamis("batch", "merge", apart[1], "-o", tmp_path / "none.jsonl", "--partial")
    assert (none.exit_code, (tmp_path / "none.jsonl").exists()) == (2, False)
    assert "no part is there yet" in none.stderr
    for part in (tmp_path / "2").glob("part-*.away"):
        part.rename(part.with_suffix(".jsonl"))
    assert tamis("batch", "merge", *apart, "-o", tmp_path / "all.jsonl").exit_code == 0
    whole = b"".join(part_bytes(tmp_path / "one").values())
    assert (tmp_path / "all.jsonl").read_bytes() == whole


def test_verify_finds_what_is_missing_damaged_or_too_much(free, tmp_path):
    out = tmp_path / "out"
    free.run_to_end(write_lines(tmp_path / "in.jsonl", rows(14)), "-o", out)
    sound = tamis("batch", "verify", out)
    assert (sound.exit_code, "14 rows in 4 parts: whole, 0 failed" in sound.stdout) == (0, True)
    (out / "part-000001.jsonl").unlink()
    text = (out / "part-000002.jsonl").read_text()
    (out / "part-000002.jsonl").write_text(text.replace("harbour", "arbours", 1))
    (out / "part-000009.jsonl").write_text("{}\n")
    broken = tamis("batch", "verify", out)
    assert broken.exit_code == 1
    for kind, part in (("missing", 1), ("damaged", 2), ("stray", 9)):
        assert any(
            line.startswith(kind) and f"part-00000{part}.jsonl" in line
            for line in broken.stdout.splitlines()
        )
    refused = tamis("batch", "merge", out, "-o", tmp_path / "all.jsonl", "--partial")
    assert refused.exit_code == 2
    assert "part-000002.jsonl is damaged" in refused.stderr


def test_a_dry_run_reports_rows_tokens_and_time_and_writes_nothing(free, tmp_path):
    source = write_lines(tmp_path / "in.jsonl", [*rows(9), "{bad"])
    message = free.run_to_end(source, "-o", tmp_path / "out", "--dry-run").stdout
    words = sum(len(d["text"].split()) for row in rows(9) for d in row["documents"])
    assert f"rows    10 in 3 parts\ntokens  about {words:,} (from 10 rows)" in message
    assert "failing 1 of 10" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("small", "big"), [(2560, 20), (9 * 256, 1), (300, 30)])
def test_a_dry_run_tells_the_tokens_of_rows_of_very_different_lengths(
    tmp_path, small, big, reverse, suffix
):
    """Parts are cut by bytes, too, so some have very few rows; whichever rows come first."""
    row = {"question": "Where?", "context": "Ships came in the spring. " * 3}
    given = [row] * small + [row | {"context": "Ships came in spring. " * 1500}] * big
    source = write_lines(tmp_path / "in.jsonl", given[:: -1 if reverse else 1])
    if suffix == "parquet":
        source = tmp_path / "in.parquet"
        pq.write_table(pa.Table.from_pylist(given[:: -1 if reverse else 1]), source)
    tokenizer = word_tokenizer(tmp_path)
    budget, cut = Budget(max_tokens=20), PartLimits(bytes=40_000)
    job = BatchJob(budget, method="lexical", tokenizer=str(tokenizer), cut=cut)
    plan = batch_run.make_plan(job, find_input_files([str(source)]), {})
    found = batch_run.estimate_batch(job, plan)
    truth = small * 15 + big * 6000
    assert truth / 1.5 < found.tokens < truth * 1.5
    assert found.sampled <= batch_run.SAMPLED_PARTS * batch_run.ROWS_A_PART


@pytest.mark.parametrize("place", [0, 999, 1999])
@pytest.mark.parametrize("part_rows", [2000, 20])  # rows in each
@pytest.mark.parametrize(
    "bad",
    [
        "{broken " + "x" * 400_000,
        json.dumps({"context": "No question. " * 30_000}),
        json.dumps({"question": "Why? " * 80_000, "context": "Ships came in the spring."}),
        json.dumps(
            {"question": "Why?", "context": "Ships came in. " * 400_000}
        ),  # over --max-input
    ],
    ids=("broken", "unasked", "long-question", "too-large"),
)
def test_one_bad_row_does_not_change_what_a_dry_run_tells(tmp_path, bad, part_rows, place):
    row = json.dumps({"question": "Where?", "context": "Ships came in the spring. " * 3})
    lines = [row] * 2000
    lines.insert(place, bad)
    (tmp_path / "in.jsonl").write_text("".join(f"{line}\n" for line in lines))
    job = BatchJob(
        Budget(max_tokens=20),
        method="lexical",
        tokenizer=str(word_tokenizer(tmp_path)),
        cut=PartLimits(part_rows),
        max_input=10_000,
    )
    plan = batch_run.make_plan(job, find_input_files([str(tmp_path / "in.jsonl")]), {})
    found = batch_run.estimate_batch(job, plan)
    assert found.tokens == pytest.approx(2000 * 15, rel=0.1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("gone.jsonl",), "there is no file or folder gone.jsonl"),
        (("--shard", "3/2"), "shard 3/2 does not exist"),
        (("--shard", "half"), "such as 1/4"),
        (("--format", "csv"), "choose from jsonl"),
        (("--method", "lexicl"), "did you mean 'lexical'"),
        (("--ratio", "0.5"), "--max-tokens and --ratio cannot be met together"),
    ],
)
def test_a_bad_call_is_one_sentence_and_status_2(free, tmp_path, words, message):
    source = write_lines(tmp_path / "in.jsonl", rows(2))
    given = [*free.options, *free.models, source, "-o", tmp_path / "out", *words]
    refused = tamis("batch", "run", *given)
    assert refused.exit_code == 2
    assert message in refused.stderr
    assert not (tmp_path / "out").exists()


def test_output_inside_the_input_is_refused(free, tmp_path):
    (tmp_path / "in").mkdir()
    source = write_lines(tmp_path / "in/rows.jsonl", rows(2))
    refused = free.run(source.parent, "-o", source.parent / "out")
    assert refused.exit_code == 2
    assert "would be read as input" in refused.stderr
