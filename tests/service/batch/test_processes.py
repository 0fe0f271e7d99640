"""Processes: each worker has a card of its own, as far as there are enough, and of two runs that
would write the same parts one is refused."""

from __future__ import annotations

import subprocess
import sys
from multiprocessing import get_context

import pytest
import torch

from tamis.compressors.rules import Budget
from tamis.service.batch import workers
from tamis.service.batch.job import BatchJob, RunOptions
from tests.pretend_device import PretendDevice
from tests.service.batch.kit import read_rows, rows, write_lines
from tests.service.cli.cli_kit import SCRIPT


@pytest.mark.parametrize(("count", "cards"), [(1, [0, 0, 0]), (2, [0, 1, 0]), (8, [0, 1, 2])])
def test_workers_take_the_cards_in_turn(count, cards, monkeypatch):
    """Torch puts a model that is loaded to `cuda` on the process's current card."""
    monkeypatch.setattr(workers, "PartWorker", lambda *_, **__: None)
    monkeypatch.setattr(workers, "_exit_with_parent", lambda: None)
    monkeypatch.setattr(torch, "set_num_threads", lambda cores: None)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    job = BatchJob(Budget(max_tokens=1), method="icr")
    started, taken = get_context("spawn").Value("i", 0), []
    for _ in cards:
        with PretendDevice("cuda", count=count):
            workers._start_worker(started, job, None, RunOptions((), ""), False)
            taken.append(torch.ones(1, device="cuda").device.index)
    assert taken == cards


WAITING = f"""
import sys
from tamis.service.batch.workers import PartWorker
do_part = PartWorker.run
def wait(*given):
    print("begun", flush=True)
    sys.stdin.read()
    return do_part(*given)
PartWorker.run = wait
{SCRIPT}
"""


@pytest.fixture
def begin(free, tmp_path):
    """Begins a batch in another process, which waits before its first part for standard input."""
    started = []

    def begin_run(*words: object) -> subprocess.Popen[str]:
        given = map(str, ("batch", "run", *words, *free.options, *free.models))
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        started.append(
            subprocess.Popen([sys.executable, "-c", WAITING, *given], text=True, **pipes)
        )
        assert started[-1].stdout.readline() == "begun\n"
        return started[-1]

    yield begin_run
    for one in started:
        one.kill()
        one.communicate()


def test_parts_that_another_process_writes_are_left_to_it(free, begin, tmp_path):
    out, source = tmp_path / "out", write_lines(tmp_path / "in.jsonl", rows(40))
    first = begin(source, "-o", out, "--shard", "1/2")
    for same in (("--shard", "1/2"), (), ("--shard", "3/4"), ("--overwrite",)):
        refused = free.run(source, "-o", out, *same)
        assert refused.exit_code == 2, same
        assert f"{out} is being written by another process (pid {first.pid})" in refused.stderr
    for other in ("2/2", "2/4"):
        assert free.run(source, "-o", out, "--shard", other).exit_code == 0
    _, stderr = first.communicate("")
    assert first.returncode == 0, stderr
    assert free.run(source, "-o", out, "--shard", "1/2").exit_code == 0
    assert len(read_rows(out)) == 40


def test_a_process_that_was_killed_keeps_nobody_from_its_parts(free, begin, tmp_path):
    source = write_lines(tmp_path / "in.jsonl", rows(5))
    first = begin(source, "-o", tmp_path / "out")
    first.kill()
    first.wait()
    free.run_to_end(source, "-o", tmp_path / "out")
