"""The folder is the registry: a file in `readings/` is a reading, named `Reading = TheClass`."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tamis.probes.errors import BadInput
from tamis.probes.folder_registry import check_entry, entry_names, written_info
from tamis.probes.window_attention.info import ReadingInfo

if TYPE_CHECKING:
    from tamis.probes.window_attention.contract import Reading

FOLDER = Path(__file__).parents[1] / "readings"


def reading_names() -> list[str]:
    """The names of all readings."""
    return entry_names(FOLDER)


def reading_class(name: str) -> type[Reading]:
    """The class of a reading.

    Raises:
        UnknownMethod: with the nearest name there is.
    """
    check_entry("reading", name, reading_names())
    found: type[Reading] = importlib.import_module(f"tamis.probes.readings.{name}").Reading
    return found


def reading_info(name: str) -> ReadingInfo:
    """What a reading is and where it comes from, read from its source.

    Raises:
        UnknownMethod: with the nearest name there is.
    """
    check_entry("reading", name, reading_names())
    written = written_info(FOLDER / f"{name}.py", ReadingInfo)
    return reading_class(name).info if written is None else written


def build_reading(name: str, reader: Any, **options: Any) -> Reading:
    """A reading by a proxy.

    Raises:
        UnknownMethod: no such reading. BadInput: an option that it does not have.
    """
    kind = reading_class(name)
    known = set(inspect.signature(kind).parameters) - {"reader"}
    if unknown := sorted(set(options) - known):
        raise BadInput(f"{name} has no option {unknown}; its options are {sorted(known) or 'none'}")
    return kind(reader, **options)
