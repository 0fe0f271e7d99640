"""Values of options of methods, from what was given on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tamis.probes.errors import BadInput


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
