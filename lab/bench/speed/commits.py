"""Speed of this tree against another commit of tamis: the same work in turns, in two processes.

Load on the machine then affects both sides, so the ratio of the two times of a turn is more
reliable than either time.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tamis.probes.errors import BadInput

ROOT = Path(__file__).resolve().parents[3]
_COMMAND = "from tamis_lab.app import run; run()"
_COMMAND_BEFORE_LAB = "from tamis.service.cli.main import run; run()"
_FRONT = "service/front"

SpeedReport = dict[str, Any]


def compare_commits(
    revision: str, words: Sequence[str], turns: int, on_run: Callable[[], None] = lambda: None
) -> dict[str, dict[str, SpeedReport]]:
    """Runs `tamis lab bench speed` of this tree and of another commit in turns, this tree first.

    Args:
        revision: the other commit, in any form that git accepts.
        words: options of the command, which both sides have. on_run: called after every run.

    Returns:
        By path and size: the medians of both sides' `ms_p50`, and of the turns' ratios.

    Raises:
        BadInput: no such commit, no git, or the other side cannot run the command.
    """
    with TemporaryDirectory(prefix="tamis-against-") as folder:
        tree = _extract_commit(revision, Path(folder) / "tree")
        theirs = _link_package(tree, Path(folder) / "theirs")
        ours = _link_package(ROOT, Path(folder) / "ours")
        runs = []
        for _ in range(turns):
            pair = []
            for side, name in ((ours, "this tree"), (theirs, revision)):
                pair.append(_run_side(side, words, name))
                on_run()
            runs.append(pair)
    return _compare_runs(runs)


def _compare_runs(runs: Sequence[Sequence[SpeedReport]]) -> dict[str, dict[str, SpeedReport]]:
    first = runs[0][0]
    return {
        path: {size: _compare_times(runs, path, size) for size in sizes}
        for path, sizes in first.items()
        if path not in ("workload", "machine")
    }


def _compare_times(runs: Sequence[Sequence[SpeedReport]], path: str, size: str) -> SpeedReport:
    """Medians and ratios of one path and size; `faster` above 1 means that this tree is faster."""
    times = [[side[path][size]["ms_p50"] for side in pair] for pair in runs]
    ours, theirs = (statistics.median(pair[side] for pair in times) for side in (0, 1))
    ratios = [pair[1] / pair[0] for pair in times]
    return {
        "ms_p50": round(ours, 1),
        "their_ms_p50": round(theirs, 1),
        "faster": round(statistics.median(ratios), 2),
        "faster_least": round(min(ratios), 2),
        "faster_most": round(max(ratios), 2),
        "turns": len(runs),
    }


def _extract_commit(revision: str, folder: Path) -> Path:
    """Extracts the files of a commit into a folder; the working tree stays as it is."""
    if revision.startswith("-"):
        raise BadInput(f"there is no commit {revision!r}; give a name that git knows")
    command = ["git", "-C", str(ROOT), "archive", "--format=tar", revision]
    try:
        done = subprocess.run(command, capture_output=True, check=True)
    except FileNotFoundError as error:
        raise BadInput("--against needs git; install it, or leave the option out") from error
    except subprocess.CalledProcessError as error:
        why = error.stderr.decode("utf8", "replace").strip()
        raise BadInput(f"git has no commit {revision!r} here ({why}); see git log") from error
    folder.mkdir()
    with tarfile.open(fileobj=BytesIO(done.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder


def _link_package(tree: Path, folder: Path) -> Path:
    """Fills a folder with links under the installed names, so that Python can import the tree."""
    package = folder / "tamis"
    package.mkdir(parents=True)
    front = tree / _FRONT
    for source in [*tree.iterdir(), *(front.iterdir() if front.is_dir() else ())]:
        if source.is_dir() or source.suffix in (".py", ".pyi", ".typed"):
            link = package / source.name
            link.unlink(missing_ok=True)
            link.symlink_to(source)
    if (tree / "lab").is_dir():
        (folder / "tamis_lab").symlink_to(tree / "lab")
    return folder


def _run_side(side: Path, words: Sequence[str], name: str) -> SpeedReport:
    code = _COMMAND if (side / "tamis_lab").exists() else _COMMAND_BEFORE_LAB
    command = [sys.executable, "-c", code, "bench", "speed", *words, "--json"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(side)},
        cwd=side,
    )
    if done.returncode:
        last = (done.stderr.strip() or "it says nothing").splitlines()[-1]
        raise BadInput(f"{name} could not run the same command: {last}")
    report: SpeedReport = json.loads(done.stdout)
    return report
