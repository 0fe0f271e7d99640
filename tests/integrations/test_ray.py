"""`tamis batch run --engine ray`: the same bytes as the local engine, whoever dies meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.service.batch.kit import part_bytes, rows, write_lines
from tests.service.cli.cli_kit import SCRIPT, word_tokenizer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def command(*words: object) -> list[str]:
    return [sys.executable, "-c", SCRIPT, "batch", "run", *map(str, words)]


def run(*words: object) -> subprocess.CompletedProcess[str]:
    """One run; a Ray worker has one thread, and in bf16 two would sum in another order."""
    one = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command(*words), capture_output=True, text=True, check=False, timeout=500, env=one
    )


@pytest.fixture
def free(tmp_path):
    """Options that need no model."""
    words = word_tokenizer(tmp_path)
    options = ("--method", "lexical", "--max-tokens", 20, "--part-rows", 10)
    return (*options, "--tokenizer", words, "--home", tmp_path / "none")


def test_ray_writes_what_the_local_engine_writes_and_names_the_rows_that_fail(tmp_path, free):
    source = write_lines(tmp_path / "in.jsonl", [*rows(60), "{not json", *rows(20)])
    local = run(source, "-o", tmp_path / "local", *free)
    ray = run(source, "-o", tmp_path / "ray", *free, "--engine", "ray", "--workers", 2)
    assert (local.returncode, ray.returncode) == (1, 1), ray.stderr
    assert part_bytes(tmp_path / "ray") == part_bytes(tmp_path / "local")
    named = [line for line in local.stderr.splitlines() if line.startswith("failed:")]
    assert len(named) == 1
    assert named[0] in ray.stderr
    stopped = run(source, "-o", tmp_path / "s", *free, "--engine", "ray", "--on-error", "stop")
    assert stopped.returncode == 1
    assert "in.jsonl, line 61: the line is not JSON" in stopped.stderr
    assert "Traceback" not in stopped.stderr


def test_a_worker_that_is_killed_is_replaced_and_no_row_is_lost_or_doubled(tmp_path, free):
    source = write_lines(tmp_path / "in.jsonl", rows(3000))
    assert run(source, "-o", tmp_path / "local", *free).returncode == 0
    words = command(source, "-o", tmp_path / "ray", *free, "--engine", "ray", "--workers", 2)
    running = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    struck = strike(running, tmp_path / "ray")
    _, said = running.communicate(timeout=500)
    assert running.returncode == 0, said
    assert struck
    assert part_bytes(tmp_path / "ray") == part_bytes(tmp_path / "local")


def strike(running: subprocess.Popen[str], out: Path) -> bool:
    """Kills one actor below the run once some parts are there and others are not."""
    while running.poll() is None:
        if len(list(out.glob("part-*"))) >= 5:
            for pid in below(running.pid):
                if b"MapWorker" in read(f"/proc/{pid}/cmdline"):
                    os.kill(pid, signal.SIGKILL)
                    return len(list(out.glob("part-*"))) < 300
        time.sleep(0.005)
    return False


def below(root: int) -> list[int]:
    """The processes that descend from one."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (told := read(entry / "stat")):
            parents[int(entry.name)] = int(told.rsplit(b")", 1)[1].split()[1])
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found)


def read(path: Path | str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


@pytest.mark.model
def test_with_the_default_proxy_two_actors_write_what_one_process_writes(tmp_path, proxy_folder):
    source = write_lines(tmp_path / "in.jsonl", rows(12))
    options = ("--ratio", 0.3, "--part-rows", 4)
    local = run(source, "-o", tmp_path / "local", *options)
    ray = run(source, "-o", tmp_path / "ray", *options, "--engine", "ray", "--workers", 2)
    assert (local.returncode, ray.returncode) == (0, 0), ray.stderr
    assert part_bytes(tmp_path / "ray").keys() == part_bytes(tmp_path / "local").keys()
    for name, data in part_bytes(tmp_path / "local").items():
        assert same(data, part_bytes(tmp_path / "ray")[name])


def same(one: bytes, other: bytes) -> bool:
    import json

    for a, b in zip(one.splitlines(), other.splitlines(), strict=True):
        x, y = json.loads(a), json.loads(b)
        scores = [
            (s.pop("score"), t.pop("score")) for s, t in zip(x["spans"], y["spans"], strict=True)
        ]
        scores += list(zip(x.pop("scores"), y.pop("scores"), strict=True))
        if x != y or any(abs((p or 0) - (q or 0)) > 1e-4 for p, q in scores):
            return False
    return True
