"""The folder is the registry: a file in `patterns/` is a pattern, named `Pattern = TheClass`."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from tamis.probes.folder_registry import check_entry, entry_names, written_info
from tamis.probes.prefill.info import PatternInfo

if TYPE_CHECKING:
    from tamis.probes.prefill.contract import Pattern

FOLDER = Path(__file__).parents[1] / "patterns"


def pattern_names() -> list[str]:
    """The names of all patterns."""
    return entry_names(FOLDER)


def pattern_class(name: str) -> type[Pattern]:
    """The class of a pattern.

    Raises:
        UnknownMethod: with the nearest name there is.
    """
    check_entry("pattern", name, pattern_names())
    found: type[Pattern] = importlib.import_module(f"tamis.probes.patterns.{name}").Pattern
    return found


def pattern_info(name: str) -> PatternInfo:
    """What a pattern is and where it comes from, read from its source.

    Raises:
        UnknownMethod: with the nearest name there is.
    """
    check_entry("pattern", name, pattern_names())
    written = written_info(FOLDER / f"{name}.py", PatternInfo)
    return pattern_class(name).info if written is None else written
