"""Another commit of tamis beside this one: the same work, in turns, each in a process of its own.

A machine that grows busy while it measures is then busy for both, and the ratio of a turn's two
times says more than either.
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
_RUN = "from tamis.service.cli.main import app; app()"
_FRONT = "service/front"

Report = dict[str, Any]


def against(
    revision: str, words: Sequence[str], turns: int, hear: Callable[[], None] = lambda: None
) -> dict[str, dict[str, Report]]:
    """Runs `tamis bench speed` here and at another commit in turns, this one first.

    Args:
        revision: what git calls the other commit. words: the command's options, which both have.
        hear: called after every run.

    Returns:
        By path and size: the medians of both sides' `ms_p50`, and of the turns' ratios.

    Raises:
        BadInput: no such commit, no git, or the other side cannot run the command.
    """
    with TemporaryDirectory(prefix="tamis-against-") as folder:
        theirs = _installed(_checked_out(revision, Path(folder) / "tree"), Path(folder) / "theirs")
        ours = _installed(ROOT, Path(folder) / "ours")
        runs = []
        for _ in range(turns):
            pair = []
            for side, name in ((ours, "this tree"), (theirs, revision)):
                pair.append(_ran(side, words, name))
                hear()
            runs.append(pair)
    return _compared(runs)


def _compared(runs: Sequence[Sequence[Report]]) -> dict[str, dict[str, Report]]:
    first = runs[0][0]
    return {
        path: {size: _cell(runs, path, size) for size in sizes}
        for path, sizes in first.items()
        if path not in ("workload", "machine")
    }


def _cell(runs: Sequence[Sequence[Report]], path: str, size: str) -> Report:
    """`faster` is theirs over ours: above 1, this tree is faster."""
    times = [[side[path][size]["ms_p50"] for side in pair] for pair in runs]
    here, there = (statistics.median(pair[side] for pair in times) for side in (0, 1))
    ratios = [pair[1] / pair[0] for pair in times]
    return {
        "ms_p50": round(here, 1),
        "their_ms_p50": round(there, 1),
        "faster": round(statistics.median(ratios), 2),
        "faster_least": round(min(ratios), 2),
        "faster_most": round(max(ratios), 2),
        "turns": len(runs),
    }


def _checked_out(revision: str, folder: Path) -> Path:
    """The files of a commit; the working tree is not touched."""
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


def _installed(tree: Path, folder: Path) -> Path:
    """A folder from which Python imports the tree as `tamis`: links under the installed names."""
    package = folder / "tamis"
    package.mkdir(parents=True)
    front = tree / _FRONT
    for there in [*tree.iterdir(), *(front.iterdir() if front.is_dir() else ())]:
        if there.is_dir() or there.suffix in (".py", ".pyi", ".typed"):
            link = package / there.name
            link.unlink(missing_ok=True)
            link.symlink_to(there)
    return folder


def _ran(side: Path, words: Sequence[str], name: str) -> Report:
    given = [sys.executable, "-c", _RUN, "bench", "speed", *words, "--json"]
    done = subprocess.run(
        given,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(side)},
        cwd=side,
    )
    if done.returncode:
        last = (done.stderr.strip() or "it says nothing").splitlines()[-1]
        raise BadInput(f"{name} could not run the same command: {last}")
    report: Report = json.loads(done.stdout)
    return report
