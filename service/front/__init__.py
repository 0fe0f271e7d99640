"""tamis keeps the sentences of a context that answer a question, verbatim, within a token budget.

import tamis
short = tamis.compress("Who wrote it?", ["First document ...", "Second ..."], max_tokens=500)
short.text, short.kept, short.tokens_out
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tamis.compressors._types import Budget as Budget
    from tamis.compressors._types import Compressed as Compressed
    from tamis.compressors._types import Rules as Rules
    from tamis.probes.proxy import Proxy as Proxy
    from tamis.probes.text import Passage as Passage
    from tamis.service.calls import acompress as acompress
    from tamis.service.calls import compress as compress

_HOMES = {
    "compress": "tamis.service.calls",
    "acompress": "tamis.service.calls",
    "Budget": "tamis.compressors._types",
    "Compressed": "tamis.compressors._types",
    "Rules": "tamis.compressors._types",
    "Proxy": "tamis.probes.proxy",
    "Passage": "tamis.probes.text",
}
__all__ = [
    "Budget",
    "Compressed",
    "Passage",
    "Proxy",
    "Rules",
    "__version__",
    "acompress",
    "compress",
]


def __getattr__(name: str) -> Any:
    """Everything behind the front door is loaded when it is first used."""
    if name == "__version__":
        return version("tamis")
    if name not in _HOMES:
        raise AttributeError(f"module 'tamis' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
