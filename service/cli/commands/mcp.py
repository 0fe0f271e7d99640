"""`tamis mcp`: compression, ranking and search as tools of an agent."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from tamis.compressors.registry import DEFAULT, method_info
from tamis.probes.errors import BadInput
from tamis.service.cli.display.errors import report_errors
from tamis.service.cli.options.compress_options import Method, Proxy, Quality

_LOCAL = ("127.0.0.1", "::1", "localhost")
EPILOG = """
**Examples**

`claude mcp add tamis -- tamis mcp --folder .` in a project: files below it may be named

`tamis mcp --index docs.index` also offers `search` over an index of `tamis index build`

`tamis mcp --transport http --port 8090` serves http://127.0.0.1:8090/mcp
"""


class Transport(enum.StrEnum):
    """How the agent reaches the server."""

    stdio = enum.auto()
    http = enum.auto()


@report_errors()
def mcp(
    index: Annotated[
        Path | None, typer.Option("--index", help="An index to search.", show_default=False)
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--folder",
            metavar="DIR",
            help="Text files below it may be named; without it none.",
            show_default=False,
        ),
    ] = None,
    method: Method = DEFAULT,
    proxy: Proxy = "auto",
    quality: Quality = "standard",
    transport: Annotated[
        Transport, typer.Option("--transport", help="http is streamable HTTP, on this machine.")
    ] = Transport.stdio,
    host: Annotated[str, typer.Option("--host", help="Of http; a local address.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Of http.")] = 8090,
) -> None:
    """Offer compression, ranking, search and what was left out as tools over MCP.

    Tools: compress (documents or files), shorten (what a command printed), rerank, retrieve (what
    markers left out) and, with --index, search. Models are loaded at the first call and never
    fetched.
    """
    from tamis.service.agents.mcp_server import mcp_server
    from tamis.service.agents.tools import AgentTools
    from tamis.service.api.languages import check_quality

    method_info(method)
    check_quality(quality, method, proxy)
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
    server = mcp_server(AgentTools(method, proxy, quality, index, folder))
    if transport is Transport.stdio:
        server.run("stdio")
    else:
        server.run("streamable-http", host=host, port=port)
