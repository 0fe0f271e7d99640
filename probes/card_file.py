"""Cards: JSON files beside weights that say which model they are for, with fixed fields."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from tamis.probes.errors import BadModelFile

FieldTypes = Mapping[str, type | tuple[type, ...]]


def read_card_fields(
    path: Path, names: Collection[str], types: FieldTypes, version: int, what: str
) -> dict[str, Any]:
    """Reads a card and checks that it has exactly the expected fields.

    Args:
        names: all field names of the card.
        types: for some of the fields, the exact types allowed.
        version: the format number expected.
        what: what errors call the file, such as `a probe's card`.

    Raises:
        BadModelFile: no such file, not JSON, another format number, or a field that is missing,
            unknown or of another type.
    """
    try:
        facts = json.loads(path.read_text(encoding="utf8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadModelFile(f"{path} cannot be read as {what}: {error}") from error
    if not isinstance(facts, dict) or set(facts) != set(names):
        odd = sorted({*names} ^ set(facts)) if isinstance(facts, dict) else type(facts).__name__
        raise BadModelFile(f"{path} is not {what}; missing or unknown: {odd}")
    if facts["format"] != version:
        raise BadModelFile(f"{path} has format {facts['format']}; this version reads {version}")
    if odd := [name for name, kind in types.items() if not _has_exact_type(facts[name], kind)]:
        raise BadModelFile(f"{path} is not {what}; of the wrong kind: {odd}")
    return facts


def _has_exact_type(value: Any, kind: type | tuple[type, ...]) -> bool:
    """Whether a value is of exactly that type, so that a bool does not pass as an int."""
    return type(value) in (kind if isinstance(kind, tuple) else (kind,))
