"""Options of methods of compression and reranking."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tamis.probes.errors import BadInput

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


def parse_fuse(given: str) -> Any:
    """The value of `--fuse`: `rrf`, `fitted`, or a weight from 0 to 1.

    Raises:
        BadInput: any other value.
    """
    from tamis.compressors.features.rank_fusion import check_fuse

    if given in ("rrf", "fitted"):
        return given
    try:
        weight = float(given)
    except ValueError as error:
        raise BadInput(
            f"--fuse is {given!r}; give rrf, fitted, or the method's weight from 0 to 1"
        ) from error
    check_fuse(weight)
    return weight
