"""Everything the README shows is run, the few blocks tagged `no-run` aside."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import tamis
from tamis.compressors.registry import DEFAULT_MODELS, layers_needed, load_proxy
from tamis.probes.hub.zoo import ZOO
from tamis.text.types import Passage, Unit
from tests import fences
from tests.service.http.app_kit import served

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def blocks(tag: str) -> list[str]:
    return fences.blocks(README, tag)


def commands() -> list[str]:
    return [line for body in blocks("bash") for line in body.splitlines() if line]


def test_every_block_is_one_that_is_run_or_says_why_not():
    assert fences.tags(README) <= {"bash", "python", "bash service", "bash no-run", "toml no-run"}


def test_only_the_set_up_is_not_run():
    """`make`, `pip install .` and the download of models; each names what there is."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    lines = [line.split() for body in blocks("bash no-run") for line in body.splitlines()]
    assert lines
    for words in lines:
        match words:
            case ["make", target, *_]:
                assert re.search(rf"^{target}:", makefile, re.MULTILINE)
            case ["pip", "install", ".", "./agents", "#", *_]:
                pass
            case ["tamis", "doctor"]:
                pass
            case ["tamis", "models", "pull", "#", *_]:
                assert set(DEFAULT_MODELS) < set(ZOO)
            case _:
                pytest.fail(f"not run: {words}")


def test_both_commands_of_a_clone_are_shown():
    lines = [line for body in blocks("bash no-run") for line in body.splitlines()]
    assert {"demo", "test"} <= {line.split()[1] for line in lines if line.startswith("make ")}


def test_what_is_shown_needs_no_variable_that_nothing_sets():
    assert re.findall(r"\$\{?[A-Z_]{2,}", README) == []


def test_the_cpu_build_of_torch_comes_from_where_the_image_has_it():
    lines = (ROOT / "deploy/Dockerfile").read_text("utf-8").splitlines()
    [address] = [line.removeprefix("ARG TORCH_INDEX=") for line in lines if "ARG TORCH" in line]
    for given, found in (("CPU=1", address), ("TORCH_INDEX=http://a/b", "http://a/b"), ("X=1", "")):
        dry = ["make", "--dry-run", "--always-make", given, ".venv/installed-plain"]
        planned = subprocess.run(dry, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert re.findall(r"install --quiet torch --index-url (\S+)", planned) == found.split()


def test_limits_stand_before_what_researchers_need():
    assert README.index("\n## Limits\n") < README.index("\n## For research\n")


def test_the_extras_that_are_named_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    sentence = README.partition("Extras, as in")[2].partition("In a clone")[0]
    _, *named = re.findall(r"`([^`]+)`", sentence)
    assert set(named) == set(project["optional-dependencies"]) - {"dev", "docs"}


@pytest.fixture
def namespace(monkeypatch) -> dict[str, Any]:
    """The names of a module for the code that is shown."""
    module = ModuleType("readme")
    monkeypatch.setitem(sys.modules, "readme", module)
    return vars(module)


def test_the_example_of_a_method_scores_units(namespace: dict[str, Any]):
    (source,) = [body for body in blocks("python") if "ScoringMethod" in body]
    exec(compile(source, "README.md", "exec"), namespace)
    text = "Bread. Room 1907."
    units = [Unit(0, 0, 7, (0, 6)), Unit(0, 7, 17, (7, 17))]
    scores = namespace["Digits"]().scores("Which room?", [Passage(text)], units)
    assert scores.values[0] < scores.values[1] == scores.passages[0]


@pytest.mark.model
@pytest.mark.usefixtures("example_folder", "proxy_folder")
@pytest.mark.parametrize("source", blocks("python"), ids=lambda source: source.splitlines()[-1])
def test_a_python_block_runs_and_does_what_its_comments_say(namespace: dict[str, Any], source: str):
    exec(compile(source, "README.md", "exec"), namespace)
    for comment in comments_of(source):
        assert OF_THE_SESSION[comment](namespace), comment


@pytest.mark.model
@pytest.mark.usefixtures("proxy_folder")
def test_what_a_question_costs_before_and_after_is_what_the_table_says():
    asked, pages = README.partition("*May allow_origins")[2], ROOT / "examples/fastapi-docs"
    question = f"May allow_origins{asked.partition('*')[0]}"
    short = tamis.compress(question, tamis.read_files(pages), max_tokens=45)
    shown = [int(n.replace(",", "")) for n in re.findall(r"\| \**([\d,]+)\** \|", asked)][:2]
    assert shown == [short.tokens_in, short.tokens_out]
    costs = [f"${3 * 1000 * tokens / 1e6:.2f}" for tokens in shown]
    assert re.findall(r"\$\d+\.\d\d", asked) == costs


def comments_of(code: str) -> set[str]:
    """The comments of some code."""
    return set(re.findall(r"(?:^|\s)#\s+(.*)$", code, re.MULTILINE))


def comments() -> set[str]:
    """Every comment of the code that is shown."""
    return {c for tag in fences.tags(README) for body in blocks(tag) for c in comments_of(body)}


def in_the_order_of_the_input(session: dict[str, Any]) -> bool:
    """Every kept sentence is in the text, one after the other, as they come in the passages."""
    short, at = session["short"], 0
    places = [(kept.passage, kept.start) for kept in short.kept]
    for kept in short.kept:
        shown = session["passages"][kept.passage][kept.start : kept.stop].strip()
        at = short.text.index(shown, at)
    return places == sorted(places)


MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
OF_THE_SESSION = {
    "the kept sentences, in the order of the input": in_the_order_of_the_input,
    "never above the budget": lambda session: 0 < session["short"].tokens_out <= 500,
}
OF_THE_MAKEFILE = {
    ".venv, the models, and the example pages compressed to 300 tokens": (
        r"^demo: \$\(PLAIN\).*\n.*models pull\n.*compress examples/.* 300 "
    ),
    "lint, types and every test that needs no data set": (
        r"^test: models check(?s:.)*?-m \"not data\""
    ),
    "in a clone; or the wheels of a release": r"pip install --quiet -e \. -e \./agents$",
}
OF_THE_ZOO = {"the proxy and three sentence encoders": DEFAULT_MODELS}


def test_every_comment_is_one_that_is_tested():
    assert comments() == {*OF_THE_SESSION, *OF_THE_MAKEFILE, *OF_THE_ZOO}


def test_the_models_are_what_the_text_says():
    kinds = [ZOO[name].kind for name in DEFAULT_MODELS]
    assert kinds == ["proxy", *["encoder"] * 3]
    fetched = sum(ZOO[name].size_bytes for name in DEFAULT_MODELS)
    assert f"The models are {fetched / 1e6:.0f} MB to fetch" in README
    assert f"is {ZOO[DEFAULT_MODELS[0]].size_bytes / 1e6:.0f} and 273 MB" in README
    assert "22M for the best third" in README  # the table's default reads with an encoder


@pytest.mark.parametrize("comment", OF_THE_MAKEFILE)
def test_a_comment_on_a_command_says_what_the_makefile_does(comment: str):
    assert re.search(OF_THE_MAKEFILE[comment], MAKEFILE, re.MULTILINE)


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
    answer = fences.run_request(command, service)
    assert "Keys are rotated" in answer.get("text", "") or answer["results"][0]["index"] == 1


@pytest.mark.model
@pytest.mark.usefixtures("proxy_folder", "example_folder")
@pytest.mark.parametrize("command", commands())
def test_a_shell_command_runs(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    fences.run_commands(command, capsys, monkeypatch)
