"""tamis keeps the sentences of a context that answer a question, verbatim, within a token budget.

import tamis
short = tamis.compress("Who wrote it?", ["First document ...", "Second ..."], max_tokens=500)
short.text, short.kept, short.tokens_out
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from tamis.probes import home as _home
from tamis.service.home import named_home as _named_home

if TYPE_CHECKING:
    from tamis.compressors._types import Budget as Budget
    from tamis.compressors._types import Compressed as Compressed
    from tamis.compressors._types import Ranked as Ranked
    from tamis.compressors._types import Reranked as Reranked
    from tamis.compressors._types import Rules as Rules
    from tamis.probes.cache import PassageCache as PassageCache
    from tamis.probes.errors import BadInput as BadInput
    from tamis.probes.errors import ProxyMissing as ProxyMissing
    from tamis.probes.errors import TamisError as TamisError
    from tamis.probes.proxy import Proxy as Proxy
    from tamis.probes.text import Passage as Passage
    from tamis.retrieval.store import CorpusIndex as CorpusIndex
    from tamis.service.asking import ask_context as ask_context
    from tamis.service.calls import acompress as acompress
    from tamis.service.calls import compress as compress
    from tamis.service.indexing import open_index as open_index
    from tamis.service.reranking import arerank as arerank
    from tamis.service.reranking import rerank as rerank

_HOMES = {
    "compress": "tamis.service.calls",
    "acompress": "tamis.service.calls",
    "ask_context": "tamis.service.asking",
    "open_index": "tamis.service.indexing",
    "CorpusIndex": "tamis.retrieval.store",
    "rerank": "tamis.service.reranking",
    "arerank": "tamis.service.reranking",
    "Budget": "tamis.compressors._types",
    "Compressed": "tamis.compressors._types",
    "Ranked": "tamis.compressors._types",
    "Reranked": "tamis.compressors._types",
    "Rules": "tamis.compressors._types",
    "PassageCache": "tamis.probes.cache",
    "Proxy": "tamis.probes.proxy",
    "Passage": "tamis.probes.text",
    "TamisError": "tamis.probes.errors",
    "BadInput": "tamis.probes.errors",
    "ProxyMissing": "tamis.probes.errors",
}
__all__ = [
    "BadInput",
    "Budget",
    "Compressed",
    "CorpusIndex",
    "Passage",
    "PassageCache",
    "Proxy",
    "ProxyMissing",
    "Ranked",
    "Reranked",
    "Rules",
    "TamisError",
    "__version__",
    "acompress",
    "arerank",
    "ask_context",
    "compress",
    "open_index",
    "rerank",
]

# whatever of tamis is imported, this is run before: models lie where TAMIS_HOME says
_home.ask(_named_home)


def __getattr__(name: str) -> Any:
    """Everything behind the front door is loaded when it is first used."""
    if name == "__version__":
        return version("tamis")
    if name not in _HOMES:
        raise AttributeError(f"module 'tamis' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
