"""Kills a batch with SIGKILL at random moments and resumes it until it is finished.

    python -m tests.chaos.batch 50        # how many kills; `make chaos`

The output must be, byte for byte, that of an undisturbed run. Most kills come between the first and
the last part: the run is watched, and killed once a part drawn at random exists.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.service.batch.kit import part_bytes, rows, write_lines
from tests.service.cli.cli_kit import SCRIPT, tamis, word_tokenizer

ROWS_A_KILL, PART_ROWS = 40, 10
SHARE_BETWEEN = 0.9
PATIENCE_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Report:
    """The result of `kill_repeatedly`.

    Attributes:
        killed: runs that were killed. between_parts: of those, after their first new part and
            before the last part of all. same: whether the output is that of an undisturbed run.
    """

    killed: int
    between_parts: int
    same: bool
    verified: bool


def kill_repeatedly(folder: Path, kills: int, seed: int, workers: int = 1) -> Report:
    """Runs and kills batches; when one finishes, its output is compared and the next begins."""
    draw = random.Random(seed)
    source = write_lines(folder / "in.jsonl", rows(max(600, ROWS_A_KILL * kills)))
    words = word_tokenizer(folder)
    calm = tamis(*_run_words(source, folder / "calm", words, 1))
    assert calm.exit_code == 0, calm.output
    undisturbed = part_bytes(folder / "calm")
    killed = between = 0
    same = True
    out = folder / "killed-0"
    while killed < kills:
        before = len(list(out.glob("part-*")))
        running = _start(source, out, words, workers)
        if draw.random() < SHARE_BETWEEN:
            target = before + draw.randint(1, max(1, len(undisturbed) // (kills // 4 + 3)))
            _wait(running, out, target)
        else:
            time.sleep(draw.uniform(0, 3))
        running.send_signal(signal.SIGKILL)
        if running.wait() == -signal.SIGKILL:
            killed += 1
            between += before < len(list(out.glob("part-*"))) < len(undisturbed)
        else:
            same = same and part_bytes(out) == undisturbed
            out = folder / f"killed-{killed}"
    assert _start(source, out, words, workers).wait(PATIENCE_SECONDS) == 0
    verified = tamis("batch", "verify", out).exit_code == 0
    return Report(killed, between, same and part_bytes(out) == undisturbed, verified)


def _run_words(source: Path, out: Path, words: Path, workers: int) -> tuple[object, ...]:
    options = ("--method", "lexical", "--max-tokens", 20, "--part-rows", PART_ROWS, "--quiet")
    models = ("--tokenizer", words, "--home", words.parent / "none", "--workers", workers)
    return "batch", "run", source, "-o", out, *options, *models


def _start(source: Path, out: Path, words: Path, workers: int) -> subprocess.Popen[bytes]:
    command = map(str, _run_words(source, out, words, workers))
    return subprocess.Popen([sys.executable, "-c", SCRIPT, *command])


def _wait(running: subprocess.Popen[bytes], out: Path, parts: int) -> None:
    """Waits until so many parts exist, or the run is finished."""
    end = time.monotonic() + PATIENCE_SECONDS
    while running.poll() is None and time.monotonic() < end:
        if len(list(out.glob("part-*"))) >= parts:
            return
        time.sleep(0.002)


if __name__ == "__main__":
    many = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    with tempfile.TemporaryDirectory() as folder:
        report = kill_repeatedly(Path(folder), many, seed=many)
    sys.stdout.write(f"{report}\n")
    sys.exit(not (report.same and report.verified))
