"""docs/new_selector.md: the file it shows is a selector as it stands; no other file is touched."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tamis.retrieval.kv import selector_registry, selectors
from tests.probes import tiny
from tests.retrieval.kv import clouds
from tests.service.cli.cli_kit import tamis

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "new_selector.md"


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The page's code in a folder of its own."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf8"), re.S)
    file = tmp_path / "half_width.py"
    file.write_text(code, "utf8")
    return file


@pytest.fixture
def registered(example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder in place of the one with the selectors that ship."""
    monkeypatch.setattr(selector_registry, "FOLDER", example.parent)
    monkeypatch.setattr(selectors, "__path__", [*selectors.__path__, str(example.parent)])


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


@pytest.mark.usefixtures("registered")
def test_it_is_found_by_its_file_and_searches():
    assert selector_registry.selector_names() == ["half_width"]
    keys, queries = clouds.keys(50), clouds.queries(3)
    selector = selector_registry.build_selector("half_width", keys, queries)
    hits = selector.search(queries, 5, 50)
    assert hits.ids.tolist() == (queries @ keys.T).topk(5).indices.tolist()
    assert hits.keys_read == 3 * (25 + 50)


@pytest.mark.usefixtures("registered")
def test_the_benchmark_of_selectors_measures_it(tmp_path: Path):
    """A tiny random model, one head, two hundred tokens of one text."""
    texts = {
        "text": "The ferry leaves at noon. It carries forty cars. " * 20,
        "train": "When does the ferry leave?\nHow many cars does it carry?\n",
        "test": "What leaves at noon?\n",
    }
    words: list[object] = ["--heads", "1.0", "--tokens", 200, "--window", 64, "--queries", 4]
    for option, text in texts.items():
        (tmp_path / f"{option}.txt").write_text(text, "utf8")
        words += [f"--{option}", tmp_path / f"{option}.txt"]
    (tmp_path / "model").mkdir()
    words += ["--proxy", tiny.save("llama", tmp_path / "model"), "--cache", tmp_path / "keys"]
    done = tamis("bench", "selectors", *words, "--json")
    assert done.exit_code == 0, done.output
    (row,) = json.loads(done.stdout)["rows"]
    assert (row["selector"], row["tokens"]) == ("half_width", 200)
    assert row["recall_at_100"] >= 0.95


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
    laws = "tests/retrieval/kv/selectors/test_selectors.py"
    run(*words, "-p", "no:cacheprovider", laws, "-k", "half_width")


def test_its_class_is_about_ten_lines(example: Path):
    body = example.read_text("utf8").partition("class HalfWidth")[2].partition("Selector:")[0]
    assert len([line for line in body.splitlines() if line.strip()]) <= 13
