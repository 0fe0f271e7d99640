"""The MCP server of `tamis mcp`, by the official SDK: tools over stdio or streamable HTTP."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from importlib.metadata import version
from typing import Any, ParamSpec, TypeVar

from tamis.probes.errors import MissingExtra, TamisError
from tamis.service.agents.tools import AgentTools

try:
    from mcp.server.mcpserver import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError
    from mcp.types import ToolAnnotations
except ImportError as error:
    raise MissingExtra(f"{error.name} is not installed: pip install 'tamis[mcp]'") from error

P = ParamSpec("P")
R = TypeVar("R")
_INSTRUCTIONS = (
    "tamis shortens long texts to what answers a question, verbatim. Markers say what was left "
    "out; retrieve gives it back by the id that they name."
)
_READ_ONLY = ToolAnnotations(read_only_hint=True, open_world_hint=False)


def mcp_server(tools: AgentTools) -> MCPServer[Any]:
    """A server that offers the tools; `search` only where there is an index.

    Raises:
        MissingExtra: the SDK is not installed.
    """
    server: MCPServer[Any] = MCPServer(
        "tamis", instructions=_INSTRUCTIONS, version=version("tamis"), log_level="WARNING"
    )

    def offer(tool: Callable[P, R], is_text: bool = False) -> None:
        # a text that is also a structured result is paid for twice
        structured = False if is_text else None
        call = _with_tool_errors(tool)
        server.add_tool(call, annotations=_READ_ONLY, structured_output=structured)

    offer(tools.compress, is_text=True)
    offer(tools.shorten, is_text=True)
    offer(tools.retrieve, is_text=True)
    offer(tools.rerank)
    if tools.index is not None:
        offer(tools.search)
    return server


def _with_tool_errors(tool: Callable[P, R]) -> Callable[P, R]:
    """The tool with tamis's own errors as errors that the model reads; others are bugs."""

    @wraps(tool)
    def call(*args: P.args, **given: P.kwargs) -> R:
        try:
            return tool(*args, **given)
        except (TamisError, OSError) as error:
            raise ToolError(str(error)) from error

    return call
