"""An environment with everything that tamis needs, and nothing of tamis: no network is asked."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

_OURS = re.compile(r"(__editable__\W*|__editable___)?tamis", re.IGNORECASE)


def make_bare_environment(home: Path) -> Path:
    """The Python of a new environment, in which the packages of this one are linked, but ours."""
    venv.create(home, with_pip=False)
    (own,) = home.glob("lib/python*/site-packages")
    for folder in map(Path, sys.path):
        if folder.name != "site-packages":
            continue
        for entry in folder.iterdir():
            if not _OURS.match(entry.name) and entry.suffix != ".pth":
                link = own / entry.name
                if not link.exists():
                    link.symlink_to(entry)
    return home / "bin/python"


def build_wheel(folder: Path, home: Path) -> Path:
    """The wheel of a package of ours, built from a copy: no stale build folder lends it files."""
    skip = shutil.ignore_patterns("__pycache__", "tests", "build", "*.egg-info")
    copy = shutil.copytree(folder, home / folder.name, ignore=skip)
    words = ["-m", "build", "--wheel", "--no-isolation", "--outdir", home / "dist", copy]
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = (home / "dist").glob("*.whl")
    return made


def install(python: Path, *what: Path) -> None:
    """Installs wheels or source trees, without what they require and without a network."""
    flags = ("--no-deps", "--no-index", "--no-build-isolation", "--quiet")
    command = [sys.executable, "-m", "pip", "--python", python, "install", *flags, *what]
    done = subprocess.run(
        command, env=_own_environment(), capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr


def run_there(
    python: Path, *words: object, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """A program of the environment, `tamis` or `python`, outside of the repository."""
    command = [str(python.parent / str(words[0])), *map(str, words[1:])]
    return subprocess.run(
        command,
        input=stdin,
        cwd=python.parents[1],
        env=_own_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def _own_environment() -> dict[str, str]:
    """The variables of this process, without the one that would lend it our sources."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
