"""The commands of the lab that the guides show: those that can be are run, the others exist."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from tamis_lab.app import app
from tests.test_docs import GUIDES, LAB, PAGES, ROOT, assert_known, blocks, named

RUN = sorted(
    {
        (named(page), line)
        for page in GUIDES
        for body in blocks(page, "bash")
        for line in body.splitlines()
        if line.startswith(LAB)
    }
)


@pytest.mark.model
@pytest.mark.usefixtures("proxy_folder")
@pytest.mark.parametrize(("page", "command"), RUN, ids=lambda text: text[:40])
def test_a_command_runs(page: str, command: str, example_folder: Path):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=example_folder,
        env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, (page, done.stdout + done.stderr)
    assert done.stdout


def test_commands_that_are_shown_but_not_run_exist_with_their_options():
    pages = [*PAGES, ROOT / "README.md"]
    shown = [line for p in pages for b in blocks(p, "bash no-run") for line in b.splitlines()]
    found = [line.split("#")[0].split()[2:] for line in shown if line.startswith(f"{LAB} ")]
    assert len(found) > 10
    assert_known(get_command(app), found)
