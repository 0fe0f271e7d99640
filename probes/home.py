"""Where tamis keeps what it fetched and what it made: models, readings, passages, keys."""

from __future__ import annotations

from pathlib import Path

import platformdirs

_told: Path | None = None


def cache_home() -> Path:
    """The user's cache folder for tamis, or the one that `keep_in` named."""
    return _told or platformdirs.user_cache_path("tamis")


def keep_in(folder: Path | None) -> None:
    """Names another folder for this process; None is the user's own again.

    Nothing below the service reads the environment: the command line says what TAMIS_HOME says.
    """
    global _told
    _told = folder
