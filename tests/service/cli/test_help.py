"""The help of every command: markdown eats what looks like a tag, a link or emphasis."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import typer.main
from click.testing import CliRunner
from typer import rich_utils

from tamis.service.cli.app import build_app, root_command
from tamis.service.cli.display.short_help import LONG_HELP, ShortHelpCommand

ROOT = typer.main.get_command(build_app())
WIDE = 2000
"""Columns: no text is wrapped, since its parts would be mixed with those of other columns."""


def commands(command: object, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command and group."""
    yield words
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*words, name))


def find_command(words: tuple[str, ...]) -> object:
    command = ROOT
    for word in words:
        command = command.commands[word]
    return command


def plain(text: str) -> str:
    """A text on one line, without its intended markdown."""
    return " ".join(re.sub(r"`|\*\*", "", text).split())


@pytest.mark.parametrize("words", list(commands(ROOT)), ids=lambda words: " ".join(words) or "-")
def test_whatever_the_help_says_is_shown(words, monkeypatch):
    monkeypatch.setattr(rich_utils, "MAX_WIDTH", WIDE)
    command = find_command(words)
    wanted = LONG_HELP if isinstance(command, ShortHelpCommand) else "--help"
    shown = CliRunner().invoke(ROOT, [*words, wanted], env={"COLUMNS": str(WIDE)}).output
    shown = " ".join(shown.split())
    for param in command.params:
        if getattr(param, "help", None) and not getattr(param, "hidden", False):
            assert plain(param.help) in shown, param.opts
    for text in (command.help, command.epilog):
        for line in (text or "").split("\n\n"):
            assert plain(line) in shown


@pytest.mark.parametrize("words", [[], ["index"], ["index", "build"], ["run"], ["lab", "bench"]])
def test_every_command_takes_the_long_help(words):
    short, full = (CliRunner().invoke(root_command(), [*words, o]) for o in ("--help", LONG_HELP))
    assert (full.exit_code, full.output) == (0, short.output)


LONG = [words for words in commands(ROOT) if isinstance(find_command(words), ShortHelpCommand)]


@pytest.mark.parametrize("words", LONG, ids=lambda words: " ".join(words))
def test_a_command_of_many_options_shows_about_a_screen_and_names_the_rest(words, monkeypatch):
    monkeypatch.setattr(rich_utils, "MAX_WIDTH", 100)
    root = root_command()
    short, full = (
        CliRunner().invoke(root, [*words, option], env={"COLUMNS": "100"}).output
        for option in ("--help", LONG_HELP)
    )
    assert len(short.splitlines()) <= 80
    assert len(full.splitlines()) > len(short.splitlines())
    # a help text that names another option may break right before it
    named = (set(re.findall(r"^│[ *]+(--[a-z-]+)", shown, re.MULTILINE)) for shown in (full, short))
    count = len(set.difference(*named))
    assert f"{count} more options (" in short
    assert f"tamis {' '.join(words)} {LONG_HELP}" in short.replace("root", "tamis")


@pytest.mark.parametrize("words", LONG, ids=lambda words: " ".join(words))
def test_no_name_of_an_option_is_cut_in_a_narrow_terminal(words, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    shown = CliRunner().invoke(root_command(), [*words, LONG_HELP], env={"COLUMNS": "80"}).output
    written = set(re.split(r"[\s,/\[\]]+", shown))
    for param in find_command(words).params:
        if not getattr(param, "hidden", False):
            assert {name for name in param.opts if name.startswith("--")} <= written
        for variable in re.findall(r"\[(TAMIS_\w+)\]", getattr(param, "help", None) or ""):
            assert variable in written


def test_no_flag_has_a_type_in_its_help():
    root = root_command()
    for words in commands(ROOT):
        shown = CliRunner().invoke(root, [*words, "--help"]).output
        assert "<bool>" not in shown, words
