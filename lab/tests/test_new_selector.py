"""lab/docs/new_selector.md: the file it shows is a selector as it stands, and no other changes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tamis_lab.methods import selectors
from tamis_lab.methods.kv_search import registry as selector_registry
from tests.example_checks import ROOT, check_lint_and_format, check_types, run_module
from tests.fences import blocks
from tests.probes import tiny
from tests.retrieval.approximate import clouds
from tests.service.cli.cli_kit import tamis

PAGE = ROOT / "lab/docs/new_selector.md"


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The page's code in a folder of its own."""
    (code,) = blocks(PAGE.read_text("utf8"), "python")
    file = tmp_path / "half_width.py"
    file.write_text(code, "utf8")
    return file


@pytest.fixture
def register_example(example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder in place of the one with the selectors that ship."""
    monkeypatch.setattr(selector_registry.SELECTORS, "folder", example.parent)
    monkeypatch.setattr(selectors, "__path__", [*selectors.__path__, str(example.parent)])


@pytest.mark.usefixtures("register_example")
def test_it_is_found_by_its_file_and_searches():
    assert selector_registry.SELECTORS.names() == ["half_width"]
    keys, queries = clouds.keys(50), clouds.queries(3)
    selector = selector_registry.build_selector("half_width", keys, queries)
    hits = selector.search(queries, 5, 50)
    assert hits.ids.tolist() == (queries @ keys.T).topk(5).indices.tolist()
    assert hits.keys_read == 3 * (25 + 50)


@pytest.mark.usefixtures("register_example")
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
    done = tamis("lab", "bench", "selectors", *words, "--json")
    assert done.exit_code == 0, done.output
    (row,) = json.loads(done.stdout)["rows"]
    assert (row["selector"], row["tokens"]) == ("half_width", 200)
    assert row["recall_at_100"] >= 0.95


def test_it_passes_lint_and_format(example: Path):
    check_lint_and_format(example)


def test_it_passes_the_strict_type_check(example: Path):
    check_types(example)


def test_the_type_check_notices_what_does_not_keep_the_contract(example: Path):
    code = example.read_text("utf8")
    example.write_text(
        code.replace("k: int, effort: int) -> KeyHits", "k: int) -> KeyHits"), "utf8"
    )
    with pytest.raises(AssertionError, match='variable has type "SelectorClass"'):
        check_types(example)


def test_it_keeps_the_laws_of_every_selector(example: Path):
    words = ("pytest", "-q", "-p", "lab.tests.selector_folder", "--selector-folder", example.parent)
    laws = "lab/tests/methods/selectors/test_selectors.py"
    run_module(*words, "-p", "no:cacheprovider", laws, "-k", "half_width")


def test_its_class_is_about_ten_lines(example: Path):
    body = example.read_text("utf8").partition("class HalfWidth")[2].partition("Selector:")[0]
    assert len([line for line in body.splitlines() if line.strip()]) <= 13
