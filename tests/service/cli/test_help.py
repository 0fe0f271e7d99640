"""The help of every command: markdown eats what looks like a tag, a link or emphasis."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import typer.main
from click.testing import CliRunner
from typer import rich_utils

from tamis.service.cli.app import app

ROOT = typer.main.get_command(app)
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
    shown = CliRunner().invoke(ROOT, [*words, "--help"], env={"COLUMNS": str(WIDE)}).output
    shown = " ".join(shown.split())
    command = find_command(words)
    for param in command.params:
        if getattr(param, "help", None) and not getattr(param, "hidden", False):
            assert plain(param.help) in shown, param.opts
    for text in (command.help, command.epilog):
        for line in (text or "").split("\n\n"):
            assert plain(line) in shown
