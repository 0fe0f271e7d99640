"""Profiles of a model on disk: JSON with a format number."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tamis.probes.atomic_file import atomic_path
from tamis.probes.errors import BadInput, BadModelFile

FORMAT = 1
SHIPPED_FOLDER = Path(__file__).parent / "profiles"


def shipped_file(name: str, model: str, folder: Path = SHIPPED_FOLDER) -> Path:
    """The path of a model's shipped profile, whether or not it exists."""
    return folder / f"{name}.{model.replace('/', '--')}.json"


def write_profile(path: Path, kind: str, facts: Mapping[str, Any]) -> None:
    """Writes a profile atomically.

    Raises:
        BadInput: the file cannot be written.
    """
    try:
        with atomic_path(path) as temporary:
            text = json.dumps({"format": FORMAT, "kind": kind, **facts}) + "\n"
            temporary.write_text(text, "utf8")
    except OSError as error:
        reason = error.strerror or error
        raise BadInput(f"{path} cannot be written ({reason}); name another file") from error


def read_profile(path: Path, kind: str) -> dict[str, Any]:
    """The content of a profile, without kind and format.

    Raises:
        BadModelFile: no such file, not JSON, of another kind or format.
    """
    try:
        found = json.loads(path.read_text("utf8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadModelFile(f"{path} cannot be read as a profile: {error}") from error
    if not isinstance(found, dict) or found.get("kind") != kind:
        raise BadModelFile(f"{path} is no {kind} profile; make one with tamis lab heads")
    if found.get("format") != FORMAT:
        raise BadModelFile(
            f"{path} has format {found.get('format')} and this tamis reads {FORMAT}; "
            "make it again with tamis lab heads"
        )
    return {name: value for name, value in found.items() if name not in ("format", "kind")}
