"""A server by the official SDK, with one of each thing that passes: `python -m` starts it."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.types import SamplingMessage, TextContent
from pydantic import BaseModel, Field

from tests.service.agents.recorded import LOG

server = MCPServer("behind", instructions="Behind.", log_level="ERROR")
PIXEL = bytes.fromhex("89504e470d0a1a0a")


class Row(BaseModel):
    """A row of a table."""

    id: int
    state: str
    note: str = "an ordinary row"


class Exact(BaseModel):
    """What has no shorter form."""

    rows: Annotated[list[Row], Field(min_length=200)]


class Name(BaseModel):
    """What a user is asked for."""

    name: str


def rows() -> list[Row]:
    return [Row(id=i, state="suspended" if i == 77 else "active") for i in range(200)]


@server.tool(structured_output=False)
def build(target: str, question: str = "") -> str:
    """Builds a target."""
    return LOG


@server.tool()
def read_log(target: str) -> str:
    """A log, as structured content, too."""
    return LOG


@server.tool()
def list_users(query: str) -> list[Row]:
    """Lists users."""
    return rows()


@server.tool()
def list_exactly() -> Exact:
    """Lists users, never fewer than 200."""
    return Exact(rows=rows())


@server.tool(structured_output=False)
def small() -> str:
    """A short result."""
    return "few words"


@server.tool(structured_output=False)
def locate(region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})]) -> str:
    """Has an argument that is a header over HTTP."""
    return f"in {region}"


@server.tool(structured_output=False)
def retrieve(id: str) -> str:
    """Is called as the tool that is added."""
    return f"own {id}"


@server.tool(structured_output=False)
def picture() -> list[Image | str]:
    """A picture, with a long text."""
    return [Image(data=PIXEL, format="png"), LOG]


@server.tool()
def fails() -> str:
    """Fails at length."""
    raise ValueError(LOG)


@server.tool(structured_output=False)
async def slow(ctx: Context) -> str:
    """Says how far it is, and then sleeps."""
    await ctx.report_progress(1, 2, "half")
    await asyncio.sleep(60)
    return "late"


@server.tool(structured_output=False)
async def ask(ctx: Context) -> str:
    """Asks the user, and the client's model."""
    found = await ctx.elicit("Who are you?", Name)
    said = SamplingMessage(role="user", content=TextContent(type="text", text="Say hello."))
    answer = await ctx.session.create_message([said], max_tokens=10)
    return f"{found.data.name}: {answer.content.text}"


@server.resource("text://long")
def long_resource() -> str:
    """A long text."""
    return LOG


@server.prompt()
def review(code: str) -> str:
    """Reviews code."""
    return f"Review {code}: {LOG}"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run("streamable-http", port=int(sys.argv[1]))
    else:
        server.run("stdio")
