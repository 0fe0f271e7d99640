"""docs/new_method.md: the file it shows is a method as it stands, and no other file is touched."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tamis
from tamis.compressors import methods, registry
from tamis.probes.scripted import ScriptedReader
from tamis.service.cli.main import app

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "new_method.md"
DOCS = ["Bread was cheap. A loaf cost two pennies.", "Ships came. The port closed in 1907. Why?"]
QUESTION = "When did the port close?"


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The page's code in a folder of its own."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf8"), re.S)
    file = tmp_path / "brightest.py"
    file.write_text(code, "utf8")
    return file


@pytest.fixture
def registered(example: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in place of the one with the methods that ship."""
    monkeypatch.setattr(registry, "FOLDER", example.parent)
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(example.parent)])
    return example


def run(*command: str | Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_is_found_by_its_file_and_compresses_and_ranks(registered: Path):
    assert registry.method_names(None) == ["brightest"]
    assert registry.method_info("brightest").needs_proxy
    for layer in (1, 3):
        reader = ScriptedReader.from_needles("1907")
        short = tamis.compress(
            QUESTION, DOCS, method="brightest", max_tokens=24, proxy=reader, layer=layer
        )
        assert short.text == "The port closed in 1907."
        ranked = tamis.rerank(QUESTION, DOCS, method="brightest", proxy=reader, layer=layer)
        assert [one.index for one in ranked.results] == [1, 0]


def test_the_command_line_lists_it(registered: Path):
    shown = CliRunner().invoke(app, ["methods"])
    assert shown.exit_code == 0, shown.output
    assert "brightest" in shown.output


def test_it_passes_lint_and_format(example: Path):
    config = ["--config", ROOT / "pyproject.toml"]
    run("ruff", "check", *config, example)
    run("ruff", "format", "--check", *config, example)


def test_it_passes_the_strict_type_check(example: Path):
    run("mypy", "--config-file", ROOT / "pyproject.toml", example)


def test_it_keeps_the_laws(example: Path):
    words = ("pytest", "-q", "-p", "tests.method_folder", "--method-folder", example.parent)
    run(*words, "-p", "no:cacheprovider", "tests/laws", "-k", "brightest")


def test_its_class_is_about_ten_lines(example: Path):
    body = example.read_text("utf8").partition("class Brightest")[2].partition("Method =")[0]
    assert len([line for line in body.splitlines() if line.strip()]) <= 13
