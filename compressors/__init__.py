"""From trust to text: one public file is one method; the folder is the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tamis.compressors.pipeline.compression import Compressor as Compressor
    from tamis.compressors.registry import build_method as build_method
    from tamis.compressors.types import Budget as Budget
    from tamis.compressors.types import Compressed as Compressed
    from tamis.compressors.types import Rules as Rules

_HOMES = {
    "build": "registry",
    "Compressor": "pipeline.compression",
    "Budget": "types",
    "Compressed": "types",
    "Rules": "types",
}
__all__ = ["Budget", "Compressed", "Compressor", "Rules", "build"]


def __getattr__(name: str) -> Any:
    """Loads a name when it is first used: `import tamis.compressors` alone loads no model."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"tamis.compressors.{_HOMES[name]}"), name)
