"""examples/tamis-digits beside a wheel of tamis: its method and command work everywhere."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from tests import fences
from tests.bare_environment import install, make_bare_environment, run_there
from tests.example_checks import ROOT, check_lint_and_format, check_types
from tests.service.http.app_kit import wait_until
from tests.service.http.test_serve import answers, free_port

PACKAGE = ROOT / "examples/tamis-digits"
CODE = (PACKAGE / "tamis_digits.py").read_text("utf-8")
QUESTION = "Which room?"
DOCUMENTS = ["Bread was cheap. Room 1907 was locked. Nobody had a key."]
LANGCHAIN = f"""
from langchain_core.documents import Document
from tamis.langchain import TamisCompressor

made = TamisCompressor(method="digits", tokenizer="estimate", max_tokens=9)
(kept,) = made.compress_documents([Document(page_content={DOCUMENTS[0]!r})], {QUESTION!r})
print(kept.page_content)
"""


def test_the_readme_shows_the_packages_file_and_the_line_that_names_its_method():
    readme = (ROOT / "README.md").read_text("utf-8")
    assert CODE in [f"{code}\n" if not code.endswith("\n") else code for code in blocks(readme)]
    project = (PACKAGE / "pyproject.toml").read_text("utf-8")
    (shown,) = fences.blocks(readme, "toml no-run")
    assert shown.strip() in project


def blocks(readme: str) -> list[str]:
    return fences.blocks(readme, "python")


def test_it_passes_lint_format_and_types():
    check_lint_and_format(PACKAGE / "tamis_digits.py")
    check_types(PACKAGE / "tamis_digits.py")


@pytest.fixture(scope="module")
def python(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with a wheel of tamis and the package."""
    home = tmp_path_factory.mktemp("digits")
    python = make_bare_environment(home / "env")
    shutil.copytree(PACKAGE, home / "package")
    install(python, *dist.glob("tamis-*.whl"))
    install(python, home / "package")
    return python


@pytest.mark.slow
def test_the_command_line_takes_the_method_and_the_command(python: Path):
    listed = run_there(python, "tamis", "methods", "--json")
    assert {"digits": "tamis-digits"}.items() <= {
        row["name"]: row["package"] for row in json.loads(listed.stdout)
    }.items()
    words = ("--method", "digits", "--tokenizer", "estimate", "--max-tokens", 9, "--quiet")
    done = run_there(python, "tamis", "compress", "-", "-q", QUESTION, *words, stdin=DOCUMENTS[0])
    assert (done.returncode, done.stdout.strip()) == (0, "Room 1907 was locked."), done.stderr
    ranked = run_there(
        python, "tamis", "rerank", "-", "-q", QUESTION, "--method", "digits", stdin="Room 7."
    )
    assert ranked.returncode == 0, ranked.stderr
    counted = run_there(python, "tamis", "digits", "a1b2")
    assert (counted.returncode, counted.stdout) == (0, "2\n")
    assert "Sentences with numbers in them" in " ".join(
        run_there(python, "tamis", "--help").stdout.replace("│", "").split()
    )


@pytest.mark.slow
def test_a_batch_takes_the_method(python: Path, tmp_path: Path):
    row = {"question": QUESTION, "documents": DOCUMENTS}
    (tmp_path / "in.jsonl").write_text(json.dumps(row) + "\n", "utf-8")
    words = ("--method", "digits", "--tokenizer", "estimate", "--max-tokens", 9)
    done = run_there(
        python, "tamis", "batch", "run", tmp_path / "in.jsonl", "-o", tmp_path / "out", *words
    )
    assert done.returncode == 0, done.stderr
    parts = sorted((tmp_path / "out").rglob("*.jsonl*"))
    assert any("Room 1907 was locked." in part.read_text("utf-8") for part in parts)


@pytest.mark.slow
def test_langchain_takes_the_method(python: Path):
    pytest.importorskip("langchain_core")
    done = run_there(python, "python", "-c", LANGCHAIN)
    assert (done.returncode, done.stdout) == (0, "Room 1907 was locked.\n"), done.stderr


@pytest.mark.slow
@pytest.mark.model
def test_the_service_takes_the_method(python: Path, proxy_folder: Path):
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    words = ("serve", "--port", str(port), "--methods", "lexical,digits", "--method", "lexical")
    process = subprocess.Popen(
        [python.parent / "tamis", *words], stderr=subprocess.PIPE, text=True, cwd=python.parents[1]
    )
    try:
        wait_until(lambda: answers(url) or process.poll() is not None, 120)
        assert process.poll() is None, process.stderr.read()
        body = {"question": QUESTION, "documents": DOCUMENTS, "max_tokens": 12, "method": "digits"}
        answer = httpx.post(f"{url}/v1/compress", json=body, timeout=60)
        assert answer.status_code == 200, answer.text
        assert answer.json()["text"] == "Room 1907 was locked."
    finally:
        process.kill()
        process.communicate()
