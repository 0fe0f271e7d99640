"""Options of methods of compression and reranking."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tamis.probes.errors import BadInput

ExitLayer = Annotated[
    int | None,
    typer.Option(
        "--exit-layer",
        min=1,
        help="Stop reading after so many layers: sooner, and some evidence is lost, see `tamis "
        "lab bench depth`. Default: as deep as the probe was fitted.",
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
GateOption = Annotated[
    str,
    typer.Option(
        "--gate",
        metavar="auto|on|off|FILE",
        help="Of ten windows or more (of up to 512 tokens), stop reading what cannot matter: by "
        "the gate that ships for a proxy (auto; on refuses where none does), or by one that "
        "`tamis lab probe gate` wrote. off reads everything.",
        rich_help_panel="Selection",
    ),
]
Cascade = Annotated[
    bool,
    typer.Option(
        "--cascade/--no-cascade",
        help="Whether a gate may leave those of many passages unread that have too little to do "
        "with the question's words; a warning says how many.",
        rich_help_panel="Selection",
    ),
]


def gate_options(gate: str, cascade: bool) -> dict[str, Any]:
    """The method's options of `--gate` and `--cascade`, where they are not the default."""
    given: dict[str, Any] = {} if cascade else {"cascade": False}
    if gate != "auto":
        given["gate"] = {"on": True, "off": False}.get(gate, Path(gate))
    return given


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
