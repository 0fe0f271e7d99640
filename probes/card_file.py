"""Cards: JSON files that say what weights are for, with exactly the fields they should have."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from tamis.probes.errors import BadModelFile

FieldTypes = Mapping[str, type | tuple[type, ...]]


def read_card_fields(
    path: Path, names: Collection[str], kinds: FieldTypes, version: int, what: str
) -> dict[str, Any]:
    """The fields of a card.

    Args:
        names: all of its fields. kinds: of some of them, the types they must have, and no others.
        version: of its format. what: it is called in errors, such as `a probe's card`.

    Raises:
        BadModelFile: no such file, not JSON, of another format, a field too many, missing or of
            another type.
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
    if odd := [name for name, kind in kinds.items() if not _has_exact_type(facts[name], kind)]:
        raise BadModelFile(f"{path} is not {what}; of the wrong kind: {odd}")
    return facts


def _has_exact_type(value: Any, kind: type | tuple[type, ...]) -> bool:
    """Whether a value is of the type itself: a bool is no number here."""
    return type(value) in (kind if isinstance(kind, tuple) else (kind,))
