"""Sharpened models: where their adapters lie, and which model those are for.

Nothing is loaded to know it. Adapters are a folder with `adapters.safetensors` and `adapters.json`;
those of the zoo's models ship with tamis, and only the model they are for is fetched.
"""

from __future__ import annotations

import json
from pathlib import Path

from tamis.probes.errors import BadModelFile
from tamis.probes.hub.wheel import sha256

WEIGHTS = "adapters.safetensors"
CARD = "adapters.json"
SHIPPED = Path(__file__).parent / "sharp"
"""One folder a sharpened model of the zoo, under its name."""


def adapters_folder(folder: Path) -> Path | None:
    """The folder, where it holds adapters and no model of its own; else None."""
    found = (folder / CARD).is_file() and not (folder / "config.json").is_file()
    return folder if found else None


def base_model(folder: Path) -> str:
    """The name or folder of the model that adapters were learnt on.

    Raises:
        BadModelFile: their card cannot be read.
    """
    try:
        return str(json.loads((folder / CARD).read_text(encoding="utf-8"))["base"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadModelFile(
            f"{folder / CARD} does not name the model its adapters are for ({error!r})"
        ) from error


def check_adapters(name: str, pinned: str) -> None:
    """Hashes the adapters of a model of the zoo.

    Raises:
        BadModelFile: they are missing, or not the pinned ones; both hashes are named.
    """
    path = SHIPPED / name / WEIGHTS
    found = sha256(path) if path.is_file() else "none"
    if found != pinned:
        raise BadModelFile(f"{path} has SHA-256 {found} and {pinned} is pinned; install tamis anew")


def sharpened_revision(base: str, weights_sha256: str) -> str:
    """What the model of a base and adapters is called in probes, caches and profiles."""
    return f"{base}+{weights_sha256[:16]}"
