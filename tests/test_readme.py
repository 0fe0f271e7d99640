"""Everything the README shows is run, the few blocks tagged `no-run` aside."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tamis.compressors.registry import layers_needed, load_proxy
from tests import fences
from tests.service.http.app_kit import served

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def blocks(tag: str) -> list[str]:
    return fences.blocks(README, tag)


def commands() -> list[str]:
    return [line for body in blocks("bash") for line in body.splitlines() if line]


def test_every_block_is_one_that_is_run_or_says_why_not():
    assert fences.tags(README) <= {
        "bash",
        "python",
        "bash service",
        "bash no-run",
    }


def test_only_make_itself_is_not_run():
    lines = [line for body in blocks("bash no-run") for line in body.splitlines()]
    assert lines
    assert all(line.startswith("make ") for line in lines)
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for line in lines:
        assert re.search(rf"^{line.split()[1]}:", makefile, re.MULTILINE)


@pytest.mark.model
@pytest.mark.usefixtures("desk", "proxy_folder")
@pytest.mark.parametrize("source", blocks("python"), ids=lambda source: source.splitlines()[-1])
def test_a_python_block_runs(source: str):
    exec(compile(source, "README.md", "exec"), {"__name__": "readme"})


@pytest.fixture(scope="module")
def service(proxy_folder: Path) -> Iterator[str]:
    """The service as the README starts it, on a free port."""
    reader = load_proxy(proxy_folder, layers_needed("question_rows"))
    with served(reader) as running:
        yield running.url


@pytest.mark.model
@pytest.mark.parametrize(
    "command", [line for body in blocks("bash service") for line in body.splitlines()]
)
def test_a_request_to_the_service_is_answered(command: str, service: str):
    told = fences.answered(command, service)
    assert "Keys are rotated" in told.get("text", "") or told["results"][0]["index"] == 1


@pytest.mark.model
@pytest.mark.usefixtures("proxy_folder")
@pytest.mark.parametrize("command", commands())
def test_a_shell_command_runs(command: str, desk: Path):
    scripts = Path(sys.executable).parent
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=desk,
        env={**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout
