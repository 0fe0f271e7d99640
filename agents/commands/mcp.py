"""`tamis mcp`: compression, ranking and search as tools of an agent."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import typer

from tamis.compressors.options import Option
from tamis.compressors.registry import DEFAULT, method_info
from tamis.compressors.tools.types import MOST_TOKENS
from tamis.probes.errors import BadInput
from tamis.service.agents.shortening import Shortening
from tamis.service.cli.display.output import print_note
from tamis.service.cli.options.compress_options import SHARED
from tamis.service.cli.options.typer_options import takes_options

_LOCAL = ("127.0.0.1", "::1", "localhost")
EPILOG = """
**Examples**

`claude mcp add tamis -- tamis mcp --folder .` in a project: files below it may be named

`tamis mcp --index docs.index` also offers `search` over an index of `tamis index build`

`tamis mcp --transport http --port 8090` serves http://127.0.0.1:8090/mcp

`claude mcp add files -- tamis mcp --wrap "npx @modelcontextprotocol/server-filesystem ."` stands
before another server and shortens its long results

`tamis mcp --wrap https://example.org/mcp --header 'Authorization: Bearer $TOKEN'`
"""


@takes_options(
    SHARED,
    method=Option("As in `tamis methods`; question_rows, and with --wrap lexical, if not given."),
    wrap=Option("Another server to stand before: its command, or its URL.", metavar="SERVER"),
    max_tokens=Option("Of a result of that server; a longer one is shortened to it.", ge=1),
    header=Option("For a wrapped URL: `NAME: VALUE`, with $VARIABLES; repeatable."),
    index=Option("An index to search."),
    folder=Option("Text files below it may be named; without it none.", metavar="DIR"),
    transport=Option("http is streamable HTTP, on this machine."),
    host=Option("Of http; a local address."),
    port=Option("Of http.", ge=1, le=65535),
)
def mcp(
    index: Path | None = None,
    folder: Path | None = None,
    wrap: str | None = None,
    max_tokens: int = MOST_TOKENS,
    header: list[str] | None = None,
    method: str | None = None,
    proxy: str = "auto",
    quality: str = "standard",
    transport: Literal["stdio", "http"] = "stdio",
    host: str = "127.0.0.1",
    port: int = 8090,
) -> None:
    """Offer compression, ranking, search and what was left out as tools over MCP.

    Tools: compress (documents or files), shorten (what a command printed), rerank, retrieve (what
    markers left out) and, with --index, search. Models are loaded at the first call and never
    fetched. With --wrap the tools are those of the other server, and retrieve.
    """
    if wrap is not None:
        if transport != "stdio":
            raise BadInput("--wrap serves over stdio; leave --transport out")
        _wrap(wrap, Shortening(max_tokens, method=method, proxy=proxy), header or ())
    from tamis.service.api.languages import quality_warning
    from tamis.text.language import AUTO
    from tamis_agents.tools import AgentTools, mcp_server

    method = method or DEFAULT
    method_info(method)
    if said := quality_warning(quality, None if proxy == AUTO else proxy):
        print_note(f"tamis: {said}")
    if folder is not None and not folder.is_dir():
        raise BadInput(f"{folder} is no folder; name one that is there")
    if index is not None:
        from tamis.service.api.index import open_index

        open_index(index)
    if host not in _LOCAL:
        raise BadInput(
            f"{host} can be reached from outside, and this server asks for no key; serve it on "
            "127.0.0.1 behind something that does"
        )
    server = mcp_server(AgentTools(method, proxy, index, folder, quality=quality))
    if transport == "stdio":
        server.run("stdio")
    else:
        server.run("streamable-http", host=host, port=port)


def _wrap(server: str, shortening: Shortening, headers: Sequence[str]) -> None:
    """Stands before a server, and ends with its exit code."""
    from tamis_agents.mcp_proxy import Wrapped, wrap_command, wrap_url

    shortening.check_method()
    pairs = [line.partition(":") for line in headers]
    if wrong := [name for name, colon, _ in pairs if not (colon and name.strip())]:
        raise BadInput(f"the header {wrong[0]!r:.40} has no name and colon; give NAME: VALUE")
    wrapped = Wrapped(shortening)
    if server.startswith(("http://", "https://")):
        given = {name.strip(): os.path.expandvars(value.strip()) for name, _, value in pairs}
        wrap_url(server, given, wrapped)
        raise typer.Exit(0)
    raise typer.Exit(wrap_command(server, wrapped))
