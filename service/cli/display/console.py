"""The console for tables and summaries: as wide as the terminal, or of a fixed width in a pipe."""

from __future__ import annotations

from rich.console import Console

PIPE_WIDTH = 160
UNCUT_WIDTH = 400
"""Width for tables with paths: a program that reads a pipe needs each row on one line."""


def make_console(
    *, stderr: bool = False, pipe_width: int = PIPE_WIDTH, markup: bool = True
) -> Console:
    """A console that does not highlight numbers: tables mark what matters by their own style."""
    console = Console(stderr=stderr, highlight=False, markup=markup)
    if not console.is_terminal:
        console.width = pipe_width  # the default of 80 columns would cut tables
    return console
