"""Sharpened models: the folder of their adapters, and the base model of these.

Adapters are a folder with `adapters.safetensors` and `adapters.json`. Those of models in the zoo
ship with tamis, so only the base model is fetched. Nothing here loads weights.
"""

from __future__ import annotations

import json
from pathlib import Path

from tamis.probes.errors import BadModelFile
from tamis.probes.hub.wheel import sha256

WEIGHTS = "adapters.safetensors"
CARD = "adapters.json"
SHIPPED = Path(__file__).parent / "sharp"
"""Contains a folder for each sharpened model of the zoo, under its name."""


def adapters_folder(folder: Path) -> Path | None:
    """The folder itself if it contains adapters and no model, else None."""
    has_adapters = (folder / CARD).is_file() and not (folder / "config.json").is_file()
    return folder if has_adapters else None


def base_model(folder: Path) -> str:
    """The name or folder of the model that adapters were trained on.

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
    """Checks the hash of the adapters of a model in the zoo.

    Raises:
        BadModelFile: they are missing or not the pinned ones; the message names both hashes.
    """
    path = SHIPPED / name / WEIGHTS
    found = sha256(path) if path.is_file() else "none"
    if found != pinned:
        raise BadModelFile(f"{path} has SHA-256 {found} and {pinned} is pinned; install tamis anew")


def sharpened_revision(base: str, weights_sha256: str) -> str:
    """The revision of a base model with adapters, for probes, caches and profiles."""
    return f"{base}+{weights_sha256[:16]}"
