"""The patterns: a file each in `patterns/`, whose last line is `Pattern = TheClass`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tamis.probes.folder_registry import FolderRegistry
from tamis.probes.prefill.info import PatternInfo

if TYPE_CHECKING:
    from tamis.probes.prefill.contract import Pattern

PATTERNS: FolderRegistry[type[Pattern], PatternInfo] = FolderRegistry(
    "pattern", "probes/patterns", PatternInfo
)
