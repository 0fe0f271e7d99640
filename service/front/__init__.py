"""tamis keeps the sentences of a context that answer a question, verbatim, within a token budget.

import tamis
short = tamis.compress("Who wrote it?", ["First document ...", "Second ..."], max_tokens=500)
short.text, short.kept, short.tokens_out
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tamis.probes.hub import cache_dir as _home

if TYPE_CHECKING:
    from tamis.compressors.rules import Budget as Budget
    from tamis.compressors.rules import Rules as Rules
    from tamis.compressors.tools.types import CompressedToolOutput as CompressedToolOutput
    from tamis.compressors.types import Compressed as Compressed
    from tamis.compressors.types import Ranked as Ranked
    from tamis.compressors.types import Reranked as Reranked
    from tamis.probes.errors import BadInput as BadInput
    from tamis.probes.errors import BudgetTooSmall as BudgetTooSmall
    from tamis.probes.errors import ProxyMissing as ProxyMissing
    from tamis.probes.errors import TamisError as TamisError
    from tamis.probes.kv_cache.cache import PassageCache as PassageCache
    from tamis.probes.model.proxy import Proxy as Proxy
    from tamis.retrieval.index.store import CorpusIndex as CorpusIndex
    from tamis.service.api.ask_context import ask_context as ask_context
    from tamis.service.api.compress import acompress as acompress
    from tamis.service.api.compress import compress as compress
    from tamis.service.api.index import open_index as open_index
    from tamis.service.api.rank_tools import RankedTools as RankedTools
    from tamis.service.api.rank_tools import arank_tools as arank_tools
    from tamis.service.api.rank_tools import rank_tools as rank_tools
    from tamis.service.api.rerank import arerank as arerank
    from tamis.service.api.rerank import rerank as rerank
    from tamis.service.api.tool_output import acompress_tool_output as acompress_tool_output
    from tamis.service.api.tool_output import compress_tool_output as compress_tool_output
    from tamis.service.files.command_inputs import read_files as read_files
    from tamis.service.files.command_inputs import read_html as read_html
    from tamis.text.types import Passage as Passage

_NAMES = {
    "tamis.service.api.compress": ("compress", "acompress"),
    "tamis.service.api.tool_output": ("compress_tool_output", "acompress_tool_output"),
    "tamis.service.api.ask_context": ("ask_context",),
    "tamis.service.api.index": ("open_index",),
    "tamis.retrieval.index.store": ("CorpusIndex",),
    "tamis.service.files.command_inputs": ("read_files", "read_html"),
    "tamis.service.api.rank_tools": ("rank_tools", "arank_tools", "RankedTools"),
    "tamis.service.api.rerank": ("rerank", "arerank"),
    "tamis.compressors.rules": ("Budget", "Rules"),
    "tamis.compressors.types": ("Compressed", "Ranked", "Reranked"),
    "tamis.compressors.tools.types": ("CompressedToolOutput",),
    "tamis.probes.kv_cache.cache": ("PassageCache",),
    "tamis.probes.model.proxy": ("Proxy",),
    "tamis.text.types": ("Passage",),
    "tamis.probes.errors": ("TamisError", "BadInput", "BudgetTooSmall", "ProxyMissing"),
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names}
__all__ = sorted((*_HOMES, "__version__"))


def _home_from_environment() -> Path | None:
    """The cache folder that TAMIS_HOME names now; None where it is unset or empty.

    It need not exist. A relative path is relative to the working folder.
    """
    named = os.environ.get("TAMIS_HOME")
    return Path(named) if named else None


# whatever of tamis is imported, this is run before: models lie where TAMIS_HOME says
_home.set_home_source(_home_from_environment)


def __getattr__(name: str) -> Any:
    """Every public name is loaded when it is first used."""
    if name == "__version__":
        from importlib.metadata import version  # a fifth of the time that this package takes

        return version("tamis")
    if name not in _HOMES:
        raise AttributeError(f"module 'tamis' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
