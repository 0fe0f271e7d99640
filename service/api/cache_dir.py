"""The TAMIS_HOME variable, read for the library, the command line and the service alike."""

from __future__ import annotations

import os
from pathlib import Path

HOME_VARIABLE = "TAMIS_HOME"


def home_from_environment() -> Path | None:
    """The cache folder that the variable names now; None where it is unset or empty.

    It need not exist. A relative path is relative to the working folder.
    """
    named = os.environ.get(HOME_VARIABLE)
    return Path(named) if named else None
