"""Options of the default method, as words of the command line."""

from __future__ import annotations

from typing import Annotated

import typer

ExitLayer = Annotated[
    int | None,
    typer.Option(
        "--exit-layer",
        min=1,
        help="Stop reading after so many layers: sooner, and some evidence is lost, see `tamis "
        "bench depth`. Default: as deep as the probe was fitted.",
        rich_help_panel="Selection",
        show_default=False,
    ),
]
Isolated = Annotated[
    bool,
    typer.Option(
        "--isolated",
        help="No document moves the score of another: for documents by people who gain by being "
        "chosen. Keeps less where facts are chained.",
        rich_help_panel="Selection",
    ),
]
