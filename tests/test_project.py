"""The files around the code: packaging lists, commands, examples, the rule about skips."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("probes", "text", "compressors", "retrieval", "service")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
ANSWER = (
    "None of `allow_origins`, `allow_methods` and `allow_headers` can be set to `['*']` "
    "if `allow_credentials` is set to `True`."
)
EXAMPLES_MAX_BYTES = 150_000
MANUALS_MAX_BYTES = 400_000
EVERYDAY_MAX_BYTES = 270_000


def test_every_package_on_disk_is_listed():
    on_disk = {
        path.parent.relative_to(ROOT).as_posix()
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("__init__.py")
    }
    setuptools = PROJECT["tool"]["setuptools"]
    folders = setuptools["package-dir"]
    assert folders == {"tamis": "service/front"} | {f"tamis.{f}": f for f in FOLDERS}
    listed = {
        folders[name] if name in folders else name.removeprefix("tamis.").replace(".", "/")
        for name in setuptools["packages"]
    }
    assert listed == on_disk


def test_every_module_lies_in_a_package():
    """A folder without __init__.py would be left out of the wheel without a word."""
    homes = {path.parent for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
    assert [str(home) for home in sorted(homes) if not (home / "__init__.py").exists()] == []


def test_only_the_lab_brings_the_build_of_faiss_for_gpus_and_not_beside_the_other():
    extras = PROJECT["project"]["optional-dependencies"]
    assert not [want for wants in extras.values() for want in wants if "faiss-gpu" in want]
    lab = tomllib.loads((ROOT / "lab/pyproject.toml").read_text("utf-8"))["project"]
    assert "faiss-gpu" in str(lab["optional-dependencies"]["gpu"])
    assert "retrieval" not in str(lab["dependencies"])  # whose faiss is that for processors


def test_torch_is_not_pinned_to_one_kind_of_machine():
    assert not [want for want in PROJECT["project"]["dependencies"] if "+" in want or "@" in want]


def test_every_target_of_the_makefile_says_what_it_does():
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[1].split()
    described = re.findall(r"^([a-z-]+):.*## \S", MAKEFILE, re.MULTILINE)
    assert sorted(described) == sorted(phony)


def test_pytest_is_never_piped():
    """A pipe without pipefail passes while pytest fails."""
    for file in (ROOT / "Makefile", ROOT / ".ci/run"):
        assert not re.search(r"(pytest|make test)[^#\n|]*(?<!\|)\|(?!\|)", file.read_text("utf-8"))


def test_the_ci_script_stops_at_the_first_failure_and_can_be_run():
    script = ROOT / ".ci/run"
    assert "set -euo pipefail" in script.read_text("utf-8")
    assert script.stat().st_mode & 0o111


def test_the_changelog_speaks_of_this_version():
    version = PROJECT["project"]["version"]
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_the_demo_asks_what_exactly_one_example_page_answers():
    question = re.search(r"^QUESTION := (.*)$", MAKEFILE, re.MULTILINE)[1]
    pages = sorted((ROOT / "examples/fastapi-docs").glob("*.md"))
    assert [page.name for page in pages if ANSWER in page.read_text("utf-8")] == ["cors.md"]
    assert question in (ROOT / "examples/NOTICE.md").read_text("utf-8")


def test_the_examples_are_small_and_their_licences_are_there():
    files = [path for path in (ROOT / "examples").rglob("*") if path.is_file()]
    sizes = {path: path.stat().st_size for path in files if path.suffix != ".pyc"}
    bounds = {"manuals": MANUALS_MAX_BYTES, "more": EVERYDAY_MAX_BYTES}  # read by benches alone
    for name, most in bounds.items():
        assert sum(size for path, size in sizes.items() if path.parent.name == name) <= most
    shown = [size for path, size in sizes.items() if path.parent.name not in bounds]
    assert sum(shown) <= EXAMPLES_MAX_BYTES
    notice = (ROOT / "examples/NOTICE.md").read_text("utf-8")
    assert "Permission is hereby granted, free of charge" in notice
    assert "provided that the above copyright notice" in notice
    assert "GFDL-1.2-or-later" in notice


SUITE = """
import pytest

def test_runs():
    pass

@pytest.mark.skip(reason="not here")
def test_rests():
    pass

@pytest.mark.xfail(reason="known")
def test_fails_as_expected():
    raise ValueError
"""


def run_suite(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A suite with one skipped test, run apart from this one."""
    (folder / "test_suite.py").write_text(SUITE, "utf-8")
    (folder / "pytest.ini").write_text(f"[pytest]\npythonpath = {ROOT}\n", "utf-8")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.skips", "-q", *arguments],
        cwd=folder,
        env={"PATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def test_a_skip_that_nobody_allowed_fails_the_run_and_is_named(tmp_path: Path):
    (tmp_path / "allowed.txt").write_text("# none\n", "utf-8")
    done = run_suite(tmp_path, "--allowed-skips=allowed.txt")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "\ntest_suite.py::test_rests\n" in done.stdout
    assert "1 passed, 1 skipped, 1 xfailed" in done.stdout.splitlines()[-1]


@pytest.mark.parametrize("arguments", [(), ("--allowed-skips=allowed.txt",)])
def test_a_skip_passes_where_it_is_allowed_or_nobody_asks(tmp_path: Path, arguments: tuple[str]):
    (tmp_path / "allowed.txt").write_text("# needs hardware\ntest_suite.py::test_rests\n", "utf-8")
    assert run_suite(tmp_path, *arguments).returncode == pytest.ExitCode.OK


def test_a_list_of_allowed_skips_that_is_missing_is_an_error(tmp_path: Path):
    assert run_suite(tmp_path, "--allowed-skips=gone.txt").returncode != pytest.ExitCode.OK
