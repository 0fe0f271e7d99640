"""Where tamis keeps what it fetched and what it made: models, readings, passages, keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import platformdirs

from tamis.probes.errors import BadInput

_home_source: Callable[[], Path | None] | None = None


def cache_home() -> Path:
    """The user's cache folder for tamis, or the one that is named otherwise at the moment."""
    return (_home_source and _home_source()) or platformdirs.user_cache_path("tamis")


def models_root(root: Path | str | None = None) -> Path:
    """The folder models are kept in; by default the one in `cache_home()`.

    Raises:
        BadInput: what is given is no path.
    """
    if root is None:
        return cache_home() / "models"
    if not isinstance(root, str | Path):
        raise BadInput(f"root is {root!r:.80}; give the path of the folder models are kept in")
    return Path(root)


def set_home_source(source: Callable[[], Path | None] | None) -> None:
    """Says who is asked for another folder each time; None, or its None, is the user's own.

    Nothing below the service reads the environment: the front door asks what TAMIS_HOME says.
    """
    global _home_source
    _home_source = source
