"""`tamis mcp`: compression, ranking and search as tools of an agent."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tamis.compressors.options import Option
from tamis.compressors.registry import DEFAULT, method_info
from tamis.probes.errors import BadInput
from tamis.service.cli.display.output import print_note, report_errors
from tamis.service.cli.options.compress_options import SHARED
from tamis.service.cli.options.typer_options import takes_options

_LOCAL = ("127.0.0.1", "::1", "localhost")
EPILOG = """
**Examples**

`claude mcp add tamis -- tamis mcp --folder .` in a project: files below it may be named

`tamis mcp --index docs.index` also offers `search` over an index of `tamis index build`

`tamis mcp --transport http --port 8090` serves http://127.0.0.1:8090/mcp
"""


@report_errors()
@takes_options(
    SHARED,
    index=Option("An index to search."),
    folder=Option("Text files below it may be named; without it none.", metavar="DIR"),
    transport=Option("http is streamable HTTP, on this machine."),
    host=Option("Of http; a local address."),
    port=Option("Of http.", ge=1, le=65535),
)
def mcp(
    index: Path | None = None,
    folder: Path | None = None,
    method: str = DEFAULT,
    proxy: str = "auto",
    quality: str = "standard",
    transport: Literal["stdio", "http"] = "stdio",
    host: str = "127.0.0.1",
    port: int = 8090,
) -> None:
    """Offer compression, ranking, search and what was left out as tools over MCP.

    Tools: compress (documents or files), shorten (what a command printed), rerank, retrieve (what
    markers left out) and, with --index, search. Models are loaded at the first call and never
    fetched.
    """
    from tamis.service.agents.tools import AgentTools, mcp_server
    from tamis.service.api.languages import quality_warning

    method_info(method)
    if said := quality_warning(quality):
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
    server = mcp_server(AgentTools(method, proxy, index, folder))
    if transport == "stdio":
        server.run("stdio")
    else:
        server.run("streamable-http", host=host, port=port)
