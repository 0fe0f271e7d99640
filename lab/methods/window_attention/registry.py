"""The readings: a file each in `readings/`, whose last line is `Reading = TheClass`."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from tamis.probes.errors import BadInput
from tamis.probes.folder_registry import FolderRegistry
from tamis_lab.methods.window_attention.info import ReadingInfo

if TYPE_CHECKING:
    from tamis_lab.methods.window_attention.contract import Reading

READINGS: FolderRegistry[type[Reading], ReadingInfo] = FolderRegistry(
    "reading", "tamis_lab/methods/readings", ReadingInfo
)


def build_reading(name: str, reader: Any, **options: Any) -> Reading:
    """A reading by a proxy.

    Raises:
        UnknownMethod: no such reading. BadInput: an option that it does not have.
    """
    kind = READINGS.load(name)
    known = set(inspect.signature(kind).parameters) - {"reader"}
    if unknown := sorted(set(options) - known):
        raise BadInput(f"{name} has no option {unknown}; its options are {sorted(known) or 'none'}")
    return kind(reader, **options)
