"""The folder where tamis stores models, readings, passages and keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import platformdirs

from tamis.probes.errors import BadInput

_home_source: Callable[[], Path | None] | None = None


def cache_home() -> Path:
    """The folder that the home source currently names, or else the user's cache folder."""
    return (_home_source and _home_source()) or platformdirs.user_cache_path("tamis")


def models_root(root: Path | str | None = None) -> Path:
    """The folder that contains models; by default `models` in `cache_home()`.

    Raises:
        BadInput: `root` is not a path.
    """
    if root is None:
        return cache_home() / "models"
    if not isinstance(root, str | Path):
        raise BadInput(f"root is {root!r:.80}; give the path of the folder models are kept in")
    return Path(root)


def passages_folder(root: Path | None = None) -> Path:
    """The folder of cached passages in a cache folder of tamis; None stands for the user's own."""
    return (root or cache_home()) / "passages"


def set_home_source(source: Callable[[], Path | None] | None) -> None:
    """Sets the function that names the cache folder; it is called every time.

    If it returns None, or `source` is None, the user's cache folder is used. The service passes a
    function that reads TAMIS_HOME; nothing below the service reads the environment.
    """
    global _home_source
    _home_source = source
