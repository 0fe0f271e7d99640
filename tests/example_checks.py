"""What a file that a page shows is put to: lint, format, types, and modules run by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = ROOT / "pyproject.toml"


def run_module(*command: str | Path) -> str:
    """What `python -m` with these words prints; it has to succeed."""
    done = subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check_lint_and_format(*files: Path) -> None:
    """Fails where ruff, as the project has it, finds anything to change."""
    run_module("ruff", "check", "--config", PROJECT, *files)
    run_module("ruff", "format", "--check", "--config", PROJECT, *files)


def check_types(*files: Path) -> None:
    """Fails where mypy, as strict as the project has it, finds an error."""
    run_module("mypy", "--config-file", PROJECT, *files)
