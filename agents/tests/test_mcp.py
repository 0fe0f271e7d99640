"""`tamis mcp` as a process, by the client of the official SDK."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from tests.service.agents.recorded import ERROR, LOG
from tests.service.cli.cli_kit import SCRIPT, process, tamis
from tests.service.http.app_kit import listens, wait_until

PAGE = "The harbour was closed in 1907. " + "Ships came and went, and nobody counted them. " * 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files, an index of them, and one file beside that no path may reach."""
    home = tmp_path_factory.mktemp("mcp")
    (home / "secret.txt").write_text("The key is 0000.")
    (home / "files").mkdir()
    (home / "files/harbour.txt").write_text(PAGE)
    (home / "files/pytest.log").write_text(LOG)
    words = ("index", "build", home / "files/harbour.txt", "-o", home / "index")
    done = process(*words)
    assert done.returncode == 0, done.stderr
    return home


def calls(folder: Path, *wanted: tuple[str, dict], index: bool = False) -> list:
    """The results of calls to one server, which is started for them."""
    words = ["mcp", "--method", "lexical", "--folder", str(folder / "files")]
    words += ["--index", str(folder / "index")] * index
    server = StdioServerParameters(command=sys.executable, args=["-c", SCRIPT, *words])

    async def run() -> list:
        async with Client(stdio_client(server)) as client:
            names = [tool.name for tool in (await client.list_tools()).tools]
            return [names, *[await client.call_tool(name, fields) for name, fields in wanted]]

    return asyncio.run(asyncio.wait_for(run(), 240))


def text_of(result) -> str:
    assert not result.is_error, result
    (content,) = result.content
    return content.text


def test_every_tool_is_called_over_stdio(folder):
    question = "When was the harbour closed?"
    names, kept, short, ranked, found = calls(
        folder,
        ("compress", {"question": question, "paths": ["harbour.txt"], "max_tokens": 30}),
        ("shorten", {"text": LOG, "command": "pytest", "ratio": 0.2}),
        ("rerank", {"question": "blue?", "documents": ["red", "blue"], "top_n": 1}),
        ("search", {"question": "harbour", "k": 1}),
        index=True,
    )
    assert names == ["compress", "shorten", "retrieve", "rerank", "search"]
    assert "harbour was closed in 1907." in text_of(kept)
    assert len(text_of(kept)) < 200
    assert ERROR in text_of(short)
    assert ranked.structured_content["result"][0]["index"] == 1
    assert len(ranked.structured_content["result"]) == 1
    assert PAGE.startswith(found.structured_content["result"][0]["text"][:31])


def test_what_was_left_out_is_given_back(folder):
    """The id in a marker is of the whole text, by lines, by a query, and of no other text."""

    async def run() -> None:
        words = ["mcp", "--method", "lexical"]
        server = StdioServerParameters(command=sys.executable, args=["-c", SCRIPT, *words])
        async with Client(stdio_client(server)) as client:
            short = text_of(await client.call_tool("shorten", {"text": LOG, "ratio": 0.2}))
            key = short.split("; id ")[1][:24]
            assert text_of(await client.call_tool("retrieve", {"id": key})) == LOG
            some = text_of(await client.call_tool("retrieve", {"id": key, "lines": "151-152"}))
            assert some.splitlines() == LOG.splitlines()[150:152]
            asked = {"id": key, "question": "what is closed?"}
            assert ERROR in text_of(await client.call_tool("retrieve", asked))
            assert (await client.call_tool("retrieve", {"id": "0" * 24})).is_error

    asyncio.run(asyncio.wait_for(run(), 240))


def test_errors_are_results_that_say_what_is_wrong(folder):
    wrong = {
        "the question is empty": ("compress", {"question": "", "documents": ["x y"]}),
        "there are no documents": ("compress", {"question": "what?"}),
        "is not below": ("compress", {"question": "what?", "paths": ["../secret.txt"]}),
        "is no file": ("shorten", {"path": "none.log"}),
        "give text, or path": ("shorten", {}),
        "compress: max_tokens is 0; give at least 1": (
            "compress",
            {"question": "?", "documents": ["x"], "max_tokens": 0},
        ),
        "max_tokens is 'many'; give a whole number": (
            "compress",
            {"question": "?", "documents": ["x"], "max_tokens": "many"},
        ),
        "compress: there is no question; give it": ("compress", {"documents": ["x"]}),
        "rerank: documents is 'x'; give a list of texts": (
            "rerank",
            {"question": "?", "documents": "x"},
        ),
        "documents[1] is 1; give a text (and 1 more)": (
            "rerank",
            {"question": "?", "documents": ["x", 1, 2]},
        ),
        "ratio is 2; give at most 1": ("shorten", {"text": "x", "ratio": 2}),
        "ratio is 0; give more than 0": ("shorten", {"text": "x", "ratio": 0}),
        "lossless is 'maybe'; give true or false": ("shorten", {"text": "x", "lossless": "maybe"}),
        "compress has no argument 'max_token': did you mean 'max_tokens'?": (
            "compress",
            {"question": "what?", "documents": ["x. y."], "max_token": 1},
        ),
        "retrieve has no argument 'rows': it has id, ": ("retrieve", {"id": "0" * 24, "rows": "1"}),
    }
    _, *results = calls(folder, *wrong.values())
    for why, result in zip(wrong, results, strict=True):
        assert result.is_error
        assert why in result.content[0].text
        assert "pydantic" not in result.content[0].text
        assert "secret" not in result.content[0].text or "below" in result.content[0].text


def test_a_link_does_not_lead_out_of_the_folder(folder):
    link = folder / "files/link.txt"
    link.symlink_to(folder / "secret.txt")
    _, result = calls(folder, ("shorten", {"path": "link.txt"}))
    link.unlink()
    assert result.is_error
    assert "0000" not in result.content[0].text


def test_over_http(folder):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["mcp", "--method", "lexical", "--transport", "http", "--port", str(port)]
    server = subprocess.Popen([sys.executable, "-c", SCRIPT, *words], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: listens(port), 120)

        async def run() -> str:
            async with Client(f"http://127.0.0.1:{port}/mcp") as client:
                return text_of(await client.call_tool("shorten", {"text": LOG, "ratio": 0.2}))

        assert ERROR in asyncio.run(run())
        headers = {"host": "evil.example", "accept": "application/json, text/event-stream"}
        rebound = httpx.post(f"http://127.0.0.1:{port}/mcp", headers=headers, json={"id": 1})
        assert rebound.status_code in (403, 421)
    finally:
        server.terminate()
        server.wait(30)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--host", "0.0.0.0"), "no key"),
        (("--folder", "/nowhere"), "no folder"),
        (("--index", "/nowhere"), "index"),
        (("--method", "none"), "method"),
    ],
    ids=str,
)
def test_what_cannot_be_served_is_refused_at_the_start(words, why):
    done = tamis("mcp", *words)
    assert done.exit_code == 2
    assert why in done.output
