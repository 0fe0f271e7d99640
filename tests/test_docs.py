"""The site builds without a warning, its examples are run, and its reference is the code's.

A page's Python blocks are run one after the other, in one session, as its reader runs them. Blocks
that cannot be run here are tagged `no-run`: commands of other programs, or files of the reader's.
The pages of the lab have lab/tests/test_docs.py; its log is read here for figures of the guides.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tamis
from tamis.compressors.registry import DEFAULT_MODELS, layers_needed, load_proxy
from tamis.probes.hub.zoo import ZOO
from tests import fences
from tests.import_graph import FOLDERS
from tests.service.http.app_kit import served

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
LOG = ROOT / "lab/log"
PAGES = sorted(DOCS.rglob("*.md"))
ROOT_PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
TAGS = {"bash", "python", "text", "bash service", "bash no-run", "python no-run", "toml no-run"}
OWN = {"new_method.md", "service.md"}
"""Pages with tests of their own, or with transcripts of commands alone."""


def named(page: Path) -> str:
    return page.relative_to(DOCS).as_posix()


LAB = "tamis lab"
"""How the commands begin that lab/tests/test_docs.py looks at."""


GUIDES = [page for page in PAGES if named(page) not in OWN]


def blocks(page: Path, tag: str) -> list[str]:
    return fences.blocks(page.read_text("utf-8"), tag)


def tutorial_command() -> str:
    (command,) = (
        line for line in blocks(DOCS / "tutorial.md", "bash") if line.startswith("tamis compress")
    )
    return command.strip()


def lines(tag: str) -> list[tuple[str, str]]:
    """Commands of all guides with their page, each once; those of the README are run there.

    The tutorial's has a test of its own, which runs it as its reader does.
    """
    tutorial = tutorial_command()
    shown = (ROOT / "README.md").read_text("utf-8").splitlines() if tag == "bash" else []
    found = {
        line: named(page)
        for page in GUIDES
        for body in blocks(page, tag)
        for line in body.splitlines()
    }
    return [
        (page, line)
        for line, page in found.items()
        if line and line not in shown and not line.startswith(LAB) and line != tutorial
    ]


SESSIONS = [page for page in GUIDES if blocks(page, "python") and page.name != "index.md"]
"""The first page has a test of its own, of what its code prints."""


def test_every_block_is_one_that_is_run_or_says_that_it_is_not():
    tags = {(named(page), tag) for page in GUIDES for tag in fences.tags(page.read_text("utf-8"))}
    assert {(page, tag) for page, tag in tags if tag not in TAGS} == set()


@pytest.mark.model
@pytest.mark.usefixtures("example_folder", "proxy_folder")
@pytest.mark.parametrize("page", SESSIONS, ids=named)
def test_the_python_of_a_page_runs(page: Path):
    session = {"__name__": page.stem}
    for body in blocks(page, "python"):
        exec(compile(body, named(page), "exec"), session)


@pytest.mark.model
@pytest.mark.usefixtures("example_folder", "proxy_folder", "encoder_folder")
def test_the_first_page_shows_what_its_code_prints(capsys: pytest.CaptureFixture[str]):
    """Tokens before and after, and the kept sentences."""
    text, session = (DOCS / "index.md").read_text("utf-8"), {"__name__": "index"}
    printed = []
    for body in fences.blocks(text, "python"):
        exec(compile(body, "index.md", "exec"), session)
        printed.append(capsys.readouterr().out)
    assert printed == fences.blocks(text, "text")
    short, readme = session["short"], (ROOT / "README.md").read_text("utf-8")
    assert f"| {short.tokens_in:,} |" in readme
    assert f"| **{short.tokens_out}** |" in readme


@pytest.mark.model
@pytest.mark.usefixtures("encoder_folder")
def test_the_tutorial_shows_the_sum_that_its_command_prints(example_folder: Path):
    text = (DOCS / "tutorial.md").read_text("utf-8")
    words = [str(Path(sys.executable).parent / "tamis"), *shlex.split(tutorial_command())[1:]]
    done = subprocess.run(words, cwd=example_folder, capture_output=True, text=True, check=True)
    assert "Traceback" not in done.stderr
    (shown,) = fences.blocks(text, "text")
    assert shown.strip() in done.stdout + done.stderr
    assert re.search(r"cors\.md +\S+ +9 of", done.stdout + done.stderr)
    fetched = sum(ZOO[name].size_bytes for name in DEFAULT_MODELS)
    assert f"The models are {fetched / 1e6:.0f} MB" in text


@pytest.mark.model
@pytest.mark.usefixtures("proxy_folder")
@pytest.mark.parametrize(("page", "command"), lines("bash"), ids=lambda text: text[:40])
def test_a_command_runs(
    page: str,
    command: str,
    example_folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    """In this process; in a shell where it is part of a pipe."""
    if "|" not in command:
        fences.run_commands(command, capsys, monkeypatch)
        return
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=example_folder,
        env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, (page, done.stdout + done.stderr)
    assert "Traceback" not in done.stderr
    assert done.stdout


@pytest.fixture(scope="module")
def service(proxy_folder: Path) -> Iterator[str]:
    name = "smollm2-135m-sharp"  # what `tamis serve` reads with; its base is in the folder
    with served(load_proxy(name, layers_needed("question_rows", name))) as running:
        yield running.url


@pytest.mark.model
@pytest.mark.parametrize(("page", "command"), lines("bash service"))
def test_a_request_is_answered(page: str, command: str, service: str):
    assert "Keys are rotated" in fences.run_request(command, service)["text"], page


@pytest.mark.model
def test_the_answer_that_the_page_of_the_service_shows_is_the_services(service: str):
    text = (ROOT / "docs/service.md").read_text("utf-8")
    (command,) = fences.blocks(text, "bash service")
    shown = next(json.loads(body) for body in fences.blocks(text, "text") if body[0] == "{")
    assert is_shown_part(shown, fences.run_request(command.strip(), service))


def is_shown_part(shown: Any, whole: Any) -> bool:
    """Whether a shown answer has fields of the whole one, with their values, numbers rounded."""
    if isinstance(shown, dict):
        return all(is_shown_part(value, whole[name]) for name, value in shown.items())
    if isinstance(shown, list):
        return len(shown) == len(whole) and all(map(is_shown_part, shown, whole))
    return shown == (pytest.approx(whole, abs=0.02) if isinstance(shown, float) else whole)


def test_commands_that_are_shown_but_not_run_exist_with_their_options():
    """They need files of the reader's own; their names can be checked all the same."""
    from typer.main import get_command

    from tamis.service.cli.app import build_app

    pages = [*PAGES, ROOT / "README.md"]
    shown = [line for p in pages for b in blocks(p, "bash no-run") for line in b.splitlines()]
    own = [line for line in shown if line.startswith("tamis ") and not line.startswith(LAB)]
    assert len(own) > 10
    assert_known(get_command(build_app()), [line.split("#")[0].split()[1:] for line in own])


def assert_known(root: Any, shown_commands: list[list[str]]) -> None:
    """Every command is there, with the options that are shown."""
    for words in shown_commands:
        command, path = root, list(words)
        while hasattr(command, "commands") and path and path[0] in command.commands:
            command = command.commands[path.pop(0)]
        assert not hasattr(command, "commands") or not path, words
        known = {name for p in command.params for name in (*p.opts, *p.secondary_opts)} | {"--help"}
        assert {w for w in path if w.startswith("-")} <= known, words


def test_every_make_target_that_is_named_exists():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    pages = [*PAGES, *ROOT_PAGES]
    names = {n for page in pages for n in re.findall(r"`make ([a-z-]+)", page.read_text("utf-8"))}
    assert {name for name in names if not re.search(rf"^{name}:", makefile, re.MULTILINE)} == set()


def test_every_figure_of_a_guide_and_of_the_readme_is_in_the_log():
    """As .839, or as the log's 83.9 %: a figure that is measured again is changed in both.

    The table of all methods, on the lab's page of benchmarks, is a source as the log is.
    """
    table = (ROOT / "lab/docs/benchmarks.md").read_text("utf-8").split("\n## ")[1]
    sources = "".join([table, *(page.read_text("utf-8") for page in sorted(LOG.glob("*.md")))])
    pages = {named(page): page for page in GUIDES} | {"README.md": ROOT / "README.md"}
    found = {
        (name, figure)
        for name, page in pages.items()
        for figure in re.findall(r"(?<![\d.])(\.\d{3})\b", page.read_text("utf-8"))
    }
    assert len(found) > 30
    lost = {(p, n) for p, n in found if n not in sources and f"{n[1:3]}.{n[3]}" not in sources}
    assert lost == set()


def test_every_file_that_is_named_exists():
    found = {
        name
        for page in [*PAGES, *ROOT_PAGES]
        for name in re.findall(
            r"`((?:deploy|tests|probes|text|compressors|retrieval|service|agents|lab|examples)/[\w./-]*\w)`",
            page.read_text("utf-8"),
        )
    }
    assert {name for name in found if not (ROOT / name).exists()} == set()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it."""
    place = tmp_path_factory.mktemp("site")
    words = ["-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(place)]
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return place


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_fetches_nothing(site: Path):
    pages = list(site.rglob("*.html"))
    assert len(pages) > len(GUIDES)
    for page in pages:
        text = page.read_text("utf-8")
        loaded = re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=\"(https?:[^\"]+)", text)
        assert loaded == [], page


@pytest.fixture(scope="module")
def hooks() -> Any:
    """docs/_site.py as mkdocs loads it."""
    spec = importlib.util.spec_from_file_location("docs_site", DOCS / "_site.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.mark.parametrize("name", ["cli", "python"])
def test_the_reference_is_what_the_code_says(name: str, hooks: Any):
    """`python docs/_site.py` writes both pages anew."""
    assert (DOCS / f"reference/{name}.md").read_text("utf-8") == hooks.page_of(name)


def test_the_reference_speaks_of_every_command_and_of_all_that_tamis_offers():
    from typer.main import get_command

    from tamis.service.cli.app import PluginCommand, build_app

    shown = (DOCS / "reference/cli.md").read_text("utf-8")
    for name, command in get_command(build_app()).commands.items():
        parts = getattr(command, "commands", {}).items()
        for path in [f"{name} {below}" for below, of in parts if not of.hidden] or [name]:
            assert isinstance(command, PluginCommand) or f"# tamis {path}\n" in shown, path
    python = (DOCS / "reference/python.md").read_text("utf-8")
    offered = [name for name in tamis.__all__ if not name.startswith("_")]
    assert [name for name in offered if f"### {name}\n" not in python and name not in ERRORS] == []


ERRORS = {"BadInput", "BudgetTooSmall", "ProxyMissing", "TamisError"}
"""Those of what tamis offers that the page draws as a tree."""

MOST_WORDS = 30_000
MOST_LINES = 70
MOST_WORDS_OF_CHANGES = 2_000
"""Of the changelog, as long as no version is released."""

WORD = re.compile(r"\S*\w\S*")
"""What stands between spaces and has a letter or a digit."""


def test_the_changelog_can_be_read():
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert len(WORD.findall(changes)) <= MOST_WORDS_OF_CHANGES


def test_the_site_can_be_read(capsys: pytest.CaptureFixture[str]):
    """A how-to is one screen."""
    texts = {named(page): page.read_text("utf-8") for page in PAGES}
    words = {name: len(WORD.findall(text)) for name, text in texts.items()}
    with capsys.disabled():
        sys.stdout.write(
            f"\nthe site has {sum(words.values()):,} words of at most {MOST_WORDS:,}\n"
        )
    assert sum(words.values()) <= MOST_WORDS, sorted(words.items(), key=lambda item: -item[1])[:5]
    how_to = {name: len(text.splitlines()) for name, text in texts.items() if "how-to/" in name}
    assert {name: lines for name, lines in how_to.items() if lines > MOST_LINES} == {}


def test_a_link_that_leaves_docs_goes_to_its_page_or_to_the_repository(hooks: Any):
    def rewritten(markdown: str, page: str) -> str:
        return hooks.on_page_markdown(markdown, SimpleNamespace(file=SimpleNamespace(src_uri=page)))

    there = f"{hooks.REPOSITORY}/blob/main"
    links = "[log](../../CHANGELOG.md) [x](../../tests/a.py#b) [s](../service.md#keys) [a](#here)"
    assert rewritten(links, "how-to/budget.md") == (
        f"[log](../changelog.md) [x]({there}/tests/a.py#b) [s](../service.md#keys) [a](#here)"
    )
    assert rewritten("[map](docs/architecture.md) [s](SECURITY.md)", "contributing.md") == (
        f"[map](architecture.md) [s]({there}/SECURITY.md)"
    )


EVERY_PAGE = [*ROOT_PAGES, *sorted(DOCS.rglob("*.md"))]


@pytest.mark.parametrize("page", EVERY_PAGE, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_relative_link_leads_to_a_file_and_a_heading(page: Path):
    check_links(page)


def check_links(page: Path) -> None:
    """mkdocs checks the site; readers of the repository follow the same links in the files."""
    for target, anchor in LINK.findall(page.read_text("utf-8")):
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), f"{target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and mkdocs make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}


CITATION = re.compile(r"(?<!lab/)docs/log|lab/log(?:/([\w-]+\.md))?(?:#([\w-]+))?")


def test_every_citation_of_the_log_in_the_source_leads_to_an_entry():
    """Page and heading: a page alone holds dozens of measurements."""
    cited = [
        (path.relative_to(ROOT).as_posix(), *found)
        for folder in (*FOLDERS, "agents", "tests", "lab")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path != Path(__file__)
        for found in CITATION.findall(path.read_text("utf-8"))
    ]
    assert len(cited) > 10
    headings = {page.name: anchors(page) for page in LOG.glob("*.md")}
    assert [c for c in cited if c[2] not in headings.get(c[1], ())] == []


def test_the_repository_has_one_address():
    """The README, the site and the package's metadata name the same one."""
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]
    repository = urls["Repository"]
    assert all(url == repository or url.startswith(f"{repository}/") for url in urls.values())
    own = re.compile(r"https?://github\.com/tamis-rag[\w./-]*")
    for page in [*EVERY_PAGE, ROOT / "pyproject.toml", ROOT / "CHANGELOG.md"]:
        for found in own.findall(page.read_text("utf-8")):
            assert found == repository or found.startswith(f"{repository}/"), page
