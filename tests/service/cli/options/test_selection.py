"""Options of selection that `tamis compress` and `tamis batch run` share with the service."""

from __future__ import annotations

import json

import pytest
import typer.main

from tamis.compressors.rules import RULES, Rules
from tamis.service.cli.app import build_app
from tamis.service.http.schemas.compress import CompressRequest, Protect, patterns_of
from tamis.service.http.schemas.patterns import SearchTime
from tests.service.cli.cli_kit import tamis, word_tokenizer

NUMBER = "It has 12 rooms."
ADDRESS = "See https://example.org/malo for more."
TEXT = f"The harbour is old. {NUMBER} Nobody knew why. {ADDRESS} Bread was cheap then."
COMMANDS = {"compress": ("compress",), "batch": ("batch", "run")}


@pytest.fixture
def free(tmp_path):
    """Options with which no model is needed."""
    words = word_tokenizer(tmp_path)
    return ("--method", "lexical", "--tokenizer", words, "-q", "Which harbour?")


@pytest.fixture
def text(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.txt").write_text(TEXT)
    return tmp_path / "in/a.txt"


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (("--protect-numbers",), NUMBER),
        (("--protect-urls",), ADDRESS),
        (("--protect-numbers", "--protect-urls"), f"{NUMBER} {ADDRESS}"),
        (("--protect", "Bread", "--protect-numbers"), f"{NUMBER} Bread was cheap then."),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("command", COMMANDS)
def test_numbers_and_addresses_can_be_protected(text, free, tmp_path, command, words, kept):
    size = ("--max-tokens", len(kept.split()))
    if command == "compress":
        done = tamis("compress", text, *size, *words, *free, "--quiet")
        assert (done.exit_code, done.stdout) == (0, f"{kept}\n"), done.output
        return
    out = tmp_path / "out"
    done = tamis("batch", "run", text.parent, "-o", out, *size, *words, *free)
    assert done.exit_code == 0, done.output
    tamis("batch", "merge", out, "-o", tmp_path / "all.jsonl")
    assert json.loads((tmp_path / "all.jsonl").read_text())["compressed"] == kept


def test_the_presets_are_those_of_the_service():
    (protect,) = [one for one in RULES if one.name == "protect"]
    for name, (pattern, _) in protect.presets.items():
        asked = patterns_of(Protect(regex=["a"], **{name: True}), SearchTime())
        assert [one.pattern for one in asked] == ["a", pattern]


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_the_floor_is_the_library_s_and_the_service_s(words):
    command = typer.main.get_command(build_app())
    for word in words:
        command = command.commands[word]
    (floor,) = [p.default for p in command.params if p.name == "answerable_floor"]
    asked = CompressRequest(question="?", documents=[""])
    assert floor == Rules().answerable_floor == asked.answerable_floor


@pytest.mark.model
@pytest.mark.usefixtures("proxy_folder", "one_thread")
def test_a_context_that_answers_is_not_emptied_unless_a_floor_is_given(tmp_path):
    docs = tmp_path / "docs"
    docs.mkdir()
    for i, name in enumerate(("Ada", "Ben", "Cem", "Dora", "Eli", "Fay", "Gus", "Hal")):
        (docs / f"{i}.txt").write_text(f"{name} keeps {i + 3} goats.")
    words = ("compress", docs, "--max-tokens", 12, "--if-unanswerable", "nothing")
    done = tamis(*words, "-q", "How many goats does Dora keep?")
    assert done.exit_code == 0
    assert "Dora keeps 6 goats." in done.stdout
    assert done.stderr.splitlines()[-1].startswith(("answerable: ", "partly: "))
    emptied = tamis(*words, "-q", "Who painted the ceiling in Rome?", "--answerable-floor", 1)
    assert emptied.stdout == "\n"
    assert emptied.stderr.splitlines()[-1].startswith("unanswerable: answerability is ")
