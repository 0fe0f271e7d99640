"""docs/new_selector.md: the file it shows is a selector as it stands; no other file is touched."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tamis.retrieval.kv import selector_registry, selectors
from tests.retrieval.kv import clouds

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "new_selector.md"


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The page's code in a folder of its own."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf8"), re.S)
    file = tmp_path / "half_width.py"
    file.write_text(code, "utf8")
    return file


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


def test_it_is_found_by_its_file_and_searches(example: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(selector_registry, "FOLDER", example.parent)
    monkeypatch.setattr(selectors, "__path__", [*selectors.__path__, str(example.parent)])
    assert selector_registry.selector_names() == ["half_width"]
    keys, queries = clouds.keys(50), clouds.queries(3)
    selector = selector_registry.build_selector("half_width", keys, queries)
    hits = selector.search(queries, 5, 50)
    assert hits.ids.tolist() == (queries @ keys.T).topk(5).indices.tolist()
    assert hits.keys_read == 3 * (25 + 50)


def test_it_passes_lint_and_format(example: Path):
    config = ["--config", ROOT / "pyproject.toml"]
    run("ruff", "check", *config, example)
    run("ruff", "format", "--check", *config, example)


def test_it_passes_the_strict_type_check(example: Path):
    run("mypy", "--config-file", ROOT / "pyproject.toml", example)


def test_the_type_check_notices_what_does_not_keep_the_contract(example: Path):
    code = example.read_text("utf8")
    example.write_text(
        code.replace("k: int, effort: int) -> KeyHits", "k: int) -> KeyHits"), "utf8"
    )
    with pytest.raises(AssertionError, match='variable has type "SelectorClass"'):
        run("mypy", "--config-file", ROOT / "pyproject.toml", example)


def test_it_keeps_the_laws_of_every_selector(example: Path):
    words = ("pytest", "-q", "-p", "tests.selector_folder", "--selector-folder", example.parent)
    laws = "tests/retrieval/kv/test_selectors.py"
    run(*words, "-p", "no:cacheprovider", laws, "-k", "half_width")


def test_its_class_is_about_ten_lines(example: Path):
    body = example.read_text("utf8").partition("class HalfWidth")[2].partition("Selector:")[0]
    assert len([line for line in body.splitlines() if line.strip()]) <= 13
