"""The MCP server of `tamis mcp`, by the official SDK: tools over stdio or streamable HTTP."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from importlib.metadata import version
from typing import Annotated, Any, ParamSpec, TypeVar

from tamis.probes.errors import MissingExtra, TamisError
from tamis.service.agents.tools import AgentTools

try:
    from mcp.server.mcpserver import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError
    from mcp.types import ToolAnnotations
    from pydantic import Field
except ImportError as error:
    raise MissingExtra(f"{error.name} is not installed: pip install 'tamis[mcp]'") from error

P = ParamSpec("P")
R = TypeVar("R")
_INSTRUCTIONS = (
    "tamis shortens long texts to what answers a question, verbatim. Markers say what was left "
    "out; retrieve gives it back by the id that they name."
)
_READ_ONLY = ToolAnnotations(read_only_hint=True, open_world_hint=False)

Query = Annotated[str, Field(description="What you want to know, as a full question.")]
Documents = Annotated[list[str], Field(description="The texts.")]
Paths = Annotated[list[str], Field(description="Text files below the server's folder.")]
MaxTokens = Annotated[int, Field(ge=1, description="The most tokens to keep of all.")]
Limit = Annotated[int | None, Field(ge=1, description="The most tokens to keep.")]
Ratio = Annotated[float | None, Field(gt=0, le=1, description="The share to keep; .4 by default.")]
TopN = Annotated[int | None, Field(ge=1, description="How many; all by default.")]
K = Annotated[int, Field(ge=1, le=100, description="How many passages.")]


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

    def compress(
        question: Query,
        documents: Documents | None = None,
        paths: Paths | None = None,
        max_tokens: MaxTokens = 500,
    ) -> str:
        """Keep the sentences of documents or files that answer a question, verbatim."""
        return tools.compress(question, documents or (), paths or (), max_tokens)

    def shorten(
        text: Annotated[str, Field(description="What a command printed.")] = "",
        path: Annotated[str, Field(description="Or a file with it.")] = "",
        question: Annotated[str, Field(description="What you want to know.")] = "",
        command: Annotated[str, Field(description="The command that printed it.")] = "",
        max_tokens: Limit = None,
        ratio: Ratio = None,
    ) -> str:
        """Shorten logs, diffs, listings or JSON: errors first, whole lines, omissions marked."""
        return tools.shorten(text, path, question, command, max_tokens, ratio)

    def rerank(question: Query, documents: Documents, top_n: TopN = None) -> list[dict[str, Any]]:
        """Rank documents by how well they answer a question, best first."""
        return tools.rerank(question, documents, top_n)

    def search(question: Query, k: K = 5) -> list[dict[str, Any]]:
        """Find the passages of the index that answer a question."""
        return tools.search(question, k)

    def retrieve(
        id: Annotated[str, Field(description="From a marker, 24 hex digits.")],
        lines: Annotated[str, Field(description="Only these, such as 12-47.")] = "",
        query: Annotated[str, Field(description="Only what this asks for.")] = "",
    ) -> str:
        """Give back what a marker says was left out: all, some lines, or what a query asks for."""
        return tools.retrieve(id, lines, query)

    offer(compress, is_text=True)
    offer(shorten, is_text=True)
    offer(retrieve, is_text=True)
    offer(rerank)
    if tools.index is not None:
        offer(search)
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
