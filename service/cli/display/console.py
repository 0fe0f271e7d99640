"""Where tables and summaries go: a terminal's own width, or a pipe's, which has none."""

from __future__ import annotations

from rich.console import Console

PIPE_WIDTH = 160
UNCUT = 400
"""For tables with paths in them: whoever reads a pipe wants each on one line."""


def screen(*, stderr: bool = False, pipe_width: int = PIPE_WIDTH, markup: bool = True) -> Console:
    """Numbers get no colour of their own: a table says by style what matters."""
    found = Console(stderr=stderr, highlight=False, markup=markup)
    if not found.is_terminal:
        found.width = pipe_width  # eighty columns would cut tables for whoever reads it
    return found
