"""The lab's pages: what they show runs or exists, and their links, and those of the log, hold."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from tamis.service.cli.app import build_app
from tamis_lab.app import app
from tests import fences
from tests.test_docs import LAB, PAGES, ROOT, TAGS, assert_known, blocks, check_links

LAB_PAGES = [ROOT / "lab/README.md", *sorted((ROOT / "lab/docs").glob("*.md"))]
LOG = sorted((ROOT / "lab" / "log").glob("*.md"))
RUN = sorted(
    {
        (page.name, line)
        for page in [*PAGES, *LAB_PAGES]
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


def shown(*tags: str) -> list[list[str]]:
    """The commands of tamis that all pages show and that are not run, without their first word."""
    pages = [*PAGES, *LAB_PAGES, ROOT / "README.md"]
    lines = [line for p in pages for tag in tags for b in blocks(p, tag) for line in b.splitlines()]
    return [line.split("#")[0].split()[1:] for line in lines if line.startswith("tamis ")]


def test_commands_that_are_shown_but_not_run_exist_with_their_options():
    found = [words for words in shown("bash no-run", "sh") if words[-1] != "--help"]
    lab = [words[1:] for words in found if words[0] == "lab"]
    assert len(lab) > 10
    assert_known(get_command(app), lab)
    assert_known(get_command(build_app()), [words for words in found if words[0] != "lab"])


@pytest.mark.parametrize("page", LAB_PAGES, ids=lambda page: page.name)
def test_every_block_of_a_page_is_one_that_is_run_or_says_that_it_is_not(page: Path):
    assert fences.tags(page.read_text("utf-8")) <= {*TAGS, "sh"}


@pytest.mark.parametrize("page", [*LAB_PAGES, *LOG], ids=lambda page: page.name)
def test_every_relative_link_leads_to_a_file_and_a_heading(page: Path):
    check_links(page)
