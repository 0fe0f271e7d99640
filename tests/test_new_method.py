"""docs/new_method.md: each file it shows is a method as it stands, and no other file is touched."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tamis
from tamis.compressors import methods, registry
from tamis.service.cli.app import build_app
from tests.example_checks import ROOT, check_lint_and_format, check_types, run_module
from tests.fences import blocks
from tests.scripted import ScriptedReader

PAGE = ROOT / "docs" / "new_method.md"
KINDS = {"brightest": "compression", "most_words": "reranking", "best_last": "ordering"}
"""The page's examples in its order, and their kinds."""
DOCS = ["Bread was cheap. A loaf cost two pennies.", "Ships came. The port closed in 1907. Why?"]
QUESTION = "When did the port close?"

every_example = pytest.mark.parametrize("name", KINDS)


def page_examples() -> dict[str, str]:
    """The code of each example by its name."""
    return dict(zip(KINDS, blocks(PAGE.read_text("utf8"), "python"), strict=True))


def write_examples(folder: Path) -> None:
    for name, code in page_examples().items():
        (folder / f"{name}.py").write_text(code, "utf8")


@pytest.fixture
def register_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with all examples and one method that ships, in place of those that ship."""
    write_examples(tmp_path)
    shipped = registry.METHODS.folder / "lexical.py"
    (tmp_path / shipped.name).write_text(shipped.read_text("utf8"), "utf8")
    monkeypatch.setattr(registry.METHODS, "folder", tmp_path)
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])


@every_example
@pytest.mark.usefixtures("register_examples")
def test_it_is_found_by_its_file(name: str):
    assert name in registry.method_names(KINDS[name])
    assert registry.method_info(name) == registry.method_class(name).info


@pytest.mark.usefixtures("register_examples")
def test_the_scoring_one_compresses_and_ranks():
    assert registry.method_info("brightest").needs_proxy
    for layer in (1, 3):
        reader = ScriptedReader.from_needles("1907")
        short = tamis.compress(
            QUESTION, DOCS, method="brightest", max_tokens=24, proxy=reader, layer=layer
        )
        assert short.text == "The port closed in 1907."
        ranked = tamis.rerank(QUESTION, DOCS, method="brightest", proxy=reader, layer=layer)
        assert [one.index for one in ranked.results] == [1, 0]


@pytest.mark.usefixtures("register_examples")
def test_the_ranking_one_ranks():
    ranked = tamis.rerank(QUESTION, ["Ships came.", *DOCS[:1]], method="most_words")
    assert [(one.index, one.own) for one in ranked.results] == [(1, 8.0), (0, 2.0)]


@pytest.mark.usefixtures("register_examples")
def test_the_ordering_one_orders_what_is_kept():
    given = [DOCS[1], DOCS[0]]
    texts = [
        tamis.compress(
            QUESTION, given, method="lexical", ratio=0.8, rules=tamis.Rules(order=order)
        ).text.split("\n\n")
        for order in ("original", "best_last")
    ]
    assert len(texts[0]) == 2
    assert texts[1] == texts[0][::-1]
    assert "1907" in texts[1][-1]


@pytest.mark.usefixtures("register_examples")
def test_the_command_line_lists_them():
    shown = CliRunner().invoke(build_app(), ["methods"])
    assert shown.exit_code == 0, shown.output
    assert [name for name in KINDS if name not in shown.output] == []


def test_they_pass_lint_format_and_the_strict_type_check(tmp_path: Path):
    write_examples(tmp_path)
    files = sorted(tmp_path.glob("*.py"))
    assert len(files) == len(KINDS)
    check_lint_and_format(*files)
    check_types(*files)


def test_they_keep_the_laws(tmp_path: Path):
    """Those of `rank` and `order` have every kind of method, the others those that score."""
    write_examples(tmp_path)
    words = ("pytest", "-v", "-p", "tests.method_folder", "--method-folder", tmp_path)
    shown = run_module(*words, "-p", "no:cacheprovider", "tests/laws", "-k", " or ".join(KINDS))
    tried = {
        name: {
            file
            for file in ("test_laws", "test_laws_scores", "test_laws_ranks")
            if re.search(rf"/{file}\.py::\S+\[{name}\b.* PASSED", shown)
        }
        for name in KINDS
    }
    assert tried == {
        "brightest": {"test_laws", "test_laws_scores", "test_laws_ranks"},
        "most_words": {"test_laws_ranks"},
        "best_last": {"test_laws_ranks"},
    }


@every_example
def test_its_class_is_about_ten_lines(name: str):
    body = re.split(r"\nclass .*", page_examples()[name])[1].partition("Method =")[0]
    assert len([line for line in body.splitlines() if line.strip()]) <= 13
