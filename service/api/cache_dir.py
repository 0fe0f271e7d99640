"""TAMIS_HOME, for whoever calls tamis: the library, the command line, the service."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "TAMIS_HOME"


def named_home() -> Path | None:
    """The cache folder that the variable names now; None where it is unset or empty.

    It need not exist. A relative one is seen from the working folder.
    """
    named = os.environ.get(VARIABLE)
    return Path(named) if named else None
