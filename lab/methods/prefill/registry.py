"""The patterns: a file each in `patterns/`, whose last line is `Pattern = TheClass`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tamis.probes.folder_registry import FolderRegistry
from tamis_lab.methods.prefill.info import PatternInfo

if TYPE_CHECKING:
    from tamis_lab.methods.prefill.contract import Pattern

PATTERNS: FolderRegistry[type[Pattern], PatternInfo] = FolderRegistry(
    "pattern", "tamis_lab/methods/patterns", PatternInfo
)
