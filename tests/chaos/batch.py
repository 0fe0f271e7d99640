"""Kills a batch with SIGKILL at random moments and takes it up again, until it is through.

    python -m tests.chaos.batch 50        # how many kills; `make chaos`

The output must be, byte for byte, that of a run that nobody disturbed. Most kills come between the
first and the last part: the run is watched, and struck once a part drawn at random is there.
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

from tests.service.batch.kit import files_of, rows, write_lines
from tests.service.cli.cli_kit import SCRIPT, word_tokenizer

ROWS_A_KILL, PART_ROWS = 40, 10
SHARE_BETWEEN = 0.9
PATIENCE_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a storm.

    Attributes:
        killed: runs that were killed. between_parts: of those, after their first new part and
            before the last part of all. same: whether the output is that of an undisturbed run.
    """

    killed: int
    between_parts: int
    same: bool
    verified: bool


def storm(folder: Path, kills: int, seed: int, workers: int = 1) -> Report:
    """Runs batches under fire: when one is through, its output is compared and the next begins."""
    draw = random.Random(seed)
    source = write_lines(folder / "in.jsonl", rows(max(600, ROWS_A_KILL * kills)))
    words = word_tokenizer(folder)
    _finished(_started(source, folder / "calm", words, 1))
    calm = files_of(folder / "calm")
    killed = between = 0
    same = True
    out = folder / "storm-0"
    while killed < kills:
        before = len(list(out.glob("part-*")))
        running = _started(source, out, words, workers)
        if draw.random() < SHARE_BETWEEN:
            target = before + draw.randint(1, max(1, len(calm) // (kills // 4 + 3)))
            _wait(running, out, target)
        else:
            time.sleep(draw.uniform(0, 3))
        running.send_signal(signal.SIGKILL)
        if running.wait() == -signal.SIGKILL:
            killed += 1
            between += before < len(list(out.glob("part-*"))) < len(calm)
        else:
            same = same and files_of(out) == calm
            out = folder / f"storm-{killed}"
    _finished(_started(source, out, words, workers))
    verdict = subprocess.run(_command("verify", out), capture_output=True, check=False)
    return Report(killed, between, same and files_of(out) == calm, verdict.returncode == 0)


def _command(*words: object) -> list[str]:
    return [sys.executable, "-c", SCRIPT, "batch", *map(str, words)]


def _started(source: Path, out: Path, words: Path, workers: int) -> subprocess.Popen[bytes]:
    options = ("--method", "lexical", "--max-tokens", 20, "--part-rows", PART_ROWS, "--quiet")
    models = ("--tokenizer", words, "--root", words.parent / "none", "--workers", workers)
    return subprocess.Popen(_command("run", source, "-o", out, *options, *models))


def _finished(running: subprocess.Popen[bytes]) -> None:
    assert running.wait(PATIENCE_SECONDS) == 0


def _wait(running: subprocess.Popen[bytes], out: Path, parts: int) -> None:
    """Until so many parts are there, or it is through."""
    end = time.monotonic() + PATIENCE_SECONDS
    while running.poll() is None and time.monotonic() < end:
        if len(list(out.glob("part-*"))) >= parts:
            return
        time.sleep(0.002)


if __name__ == "__main__":
    many = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    with tempfile.TemporaryDirectory() as folder:
        told = storm(Path(folder), many, seed=many)
    sys.stdout.write(f"{told}\n")
    sys.exit(not (told.same and told.verified))
