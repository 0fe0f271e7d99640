"""Tests of tamis inside other projects, each in an environment of its own with pinned versions.

    python -m tests.integrations.environments            # all of them: `make test-integrations`
    python -m tests.integrations.environments NAME ...   # some

An environment is a file NAME.txt here: requirements for pip, one comment `# tests: FILE ...` that
names what runs in it, and maybe comments `# npm: PACKAGE@VERSION ...` and, for packages of pip
without what they require, `# alone: PACKAGE==VERSION ...`. It stands in .venv/integrations/NAME and
is made anew when its file has changed. What it does not pin (torch, pytest, tamis itself) comes
from the environment that this script runs in.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.environments import ROOT, Environments

HERE = Path(__file__).parent
INTEGRATIONS = Environments(HERE, ROOT / ".venv/integrations")


def tests(name: str) -> list[str]:
    """The files that run in an environment."""
    lines = (HERE / f"{name}.txt").read_text("utf-8").splitlines()
    (said,) = (line for line in lines if line.startswith("# tests:"))
    return said.removeprefix("# tests:").split()


def run(name: str) -> None:
    """Runs the tests of an environment. CalledProcessError: some failed."""
    command = [INTEGRATIONS.made(name), "-m", "pytest", "-q", *tests(name)]
    subprocess.run(command, cwd=ROOT, check=True, env=os.environ | {"TAMIS_INTEGRATION": name})


if __name__ == "__main__":
    sys.exit(INTEGRATIONS.each(sys.argv[1:], run))
