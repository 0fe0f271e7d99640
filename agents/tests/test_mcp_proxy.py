"""`tamis mcp --wrap` as a process before real servers, by the client of the official SDK."""

from __future__ import annotations

import asyncio
import json
import shlex
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.types import CreateMessageResult, ElicitResult, TextContent

from agents.tests.wrapped_server import rows
from tamis.service.agents.shortening import Shortening
from tamis_agents.mcp_proxy import OMITTED, Wrapped
from tests.service.agents.recorded import ERROR, LOG
from tests.service.cli.cli_kit import SCRIPT, tamis
from tests.service.http.app_kit import listens, wait_until

MODULE = ["-m", "agents.tests.wrapped_server"]
BEHIND = shlex.join([sys.executable, *MODULE])
MOST = 600


def wrapped(server: str, *words: str) -> list[str]:
    return ["-c", SCRIPT, "mcp", "--wrap", server, "--max-tokens", str(MOST), *words]


def talk(
    arguments: list[str], use: Callable[[Client], Awaitable[Any]], mode: str = "auto", **given: Any
) -> Any:
    """What a conversation with a server gives."""
    server = StdioServerParameters(command=sys.executable, args=arguments)

    async def run() -> Any:
        async with Client(stdio_client(server), mode=mode, **given) as client:
            return await use(client)

    return asyncio.run(asyncio.wait_for(run(), 120))


async def everything(client: Client) -> dict[str, Any]:
    """One of each thing that a server has, as JSON."""
    tools = [tool.model_dump(mode="json") for tool in (await client.list_tools()).tools]
    found = {
        "tools": [tool for tool in tools if tool["name"] != "tamis_retrieve"],
        "located": await client.call_tool("locate", {"region": "north"}),
        "info": client.server_info,
        "capabilities": client.server_capabilities,
        "resources": await client.list_resources(),
        "templates": await client.list_resource_templates(),
        "prompts": await client.list_prompts(),
        "resource": await client.read_resource("text://long"),
        "prompt": await client.get_prompt("review", {"code": "x"}),
        "small": await client.call_tool("small", {}),
        "own": await client.call_tool("retrieve", {"id": "1"}),
        "fails": await client.call_tool("fails", {}),
        "unknown": await client.call_tool("none", {}),
        "exactly": (await client.call_tool("list_exactly", {})).structured_content,
        "instructions": client.instructions,
        "version": client.protocol_version,
    }
    as_json = {
        k: v.model_dump(mode="json") if hasattr(v, "model_dump") else v for k, v in found.items()
    }
    return as_json


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_all_that_is_not_shortened_passes_as_it_is(mode):
    direct = talk(MODULE, everything, mode)
    assert talk(wrapped(BEHIND), everything, mode) == direct
    assert LOG in direct["resource"]["contents"][0]["text"]


def text_of(result: Any) -> str:
    assert not result.is_error, result
    return result.content[-1].text


@contextmanager
def over_http() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, *MODULE, str(port)]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: listens(port), 60)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        server.terminate()
        server.wait(30)


async def shortens(client: Client) -> None:
    """A long result comes shorter, and what was left out comes whole and is not shortened."""
    listed = (await client.list_tools()).tools
    assert [tool.name for tool in listed][-1] == "tamis_retrieve"  # there is a `retrieve` behind
    short = text_of(await client.call_tool("build", {"target": "all"}))
    assert ERROR in short.splitlines()
    assert len(short) < len(LOG) / 3
    key = short.split("; id ")[1][:24]
    assert text_of(await client.call_tool("tamis_retrieve", {"id": key})) == LOG
    some = await client.call_tool("tamis_retrieve", {"id": key, "lines": "151-152"})
    assert text_of(some).splitlines() == LOG.splitlines()[150:152]
    for wrong in ({"id": "0" * 24}, {}, {"id": key, "lines": "x"}, {"id": key, "all": "x"}):
        assert (await client.call_tool("tamis_retrieve", wrong)).is_error


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize("transport", ["stdio", "http"])
def test_a_long_result_gets_shorter_and_comes_back_whole(transport, mode):
    if transport == "stdio":
        talk(wrapped(BEHIND), shortens, mode)
        return
    with over_http() as url:
        talk(wrapped(url), shortens, mode)
        assert talk(wrapped(url), everything, mode) == talk(MODULE, everything, mode)


def test_structured_content_stays_valid_and_says_what_it_lacks():
    async def use(client: Client) -> None:
        await client.list_tools()
        users = await client.call_tool("list_users", {"query": "who is suspended?"})
        kept = users.structured_content["result"]
        assert 0 < len(kept) < 100
        assert 77 in [row["id"] for row in kept]
        assert all(row in [one.model_dump() for one in rows()] for row in kept)
        key = users.meta[OMITTED]
        whole = text_of(await client.call_tool("tamis_retrieve", {"id": key}))
        assert json.loads(whole)["result"] == [one.model_dump() for one in rows()]
        assert any("omitted" in block.text for block in users.content)
        log = await client.call_tool("read_log", {"target": "all"})
        assert ERROR in log.structured_content["result"].splitlines()
        assert log.structured_content["result"] == text_of(log)
        exact = await client.call_tool("list_exactly", {})
        assert len(exact.structured_content["rows"]) == 200

    talk(wrapped(BEHIND), use)


def test_a_picture_stays_beside_a_text_that_gets_shorter():
    async def use(client: Client) -> None:
        picture, text = (await client.call_tool("picture", {})).content
        direct = await direct_picture()
        assert picture == direct
        assert len(text.text) < len(LOG) / 3

    async def direct_picture() -> Any:
        server = StdioServerParameters(command=sys.executable, args=MODULE)
        async with Client(stdio_client(server)) as client:
            return (await client.call_tool("picture", {})).content[0]

    talk(wrapped(BEHIND), use)


def test_progress_cancellation_and_requests_of_the_server_pass():
    steps: list[tuple] = []

    async def note(*step: Any) -> None:
        steps.append(step)

    async def elicit(context: Any, params: Any) -> ElicitResult:
        assert params.message == "Who are you?"
        return ElicitResult(action="accept", content={"name": "Ada"})

    async def sample(context: Any, params: Any) -> CreateMessageResult:
        said = TextContent(type="text", text="hello")
        return CreateMessageResult(role="assistant", content=said, model="m")

    async def use(client: Client) -> None:
        assert text_of(await client.call_tool("ask", {})) == "Ada: hello"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.call_tool("slow", {}, progress_callback=note), 5)
        assert steps == [(1, 2, "half")]
        assert text_of(await client.call_tool("small", {})) == "few words"

    talk(wrapped(BEHIND), use, "legacy", elicitation_callback=elicit, sampling_callback=sample)


ECHO = """
import json, sys
print("to stderr", file=sys.stderr, flush=True)
sys.stdout.buffer.write(b'{"broken": \\n[7]\\n\\n\\xff\\xfe\\n{"id": 1.5, "x": 1e2}\\n')
sys.stdout.buffer.flush()
for line in sys.stdin.buffer:
    sys.stdout.buffer.write(b"got " + line)
sys.stdout.buffer.write(b"no end of line")
sys.exit(7)
"""


def piped(server: str, sent: bytes) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *wrapped(server)], input=sent, capture_output=True, timeout=60
    )


def test_what_is_no_message_passes_to_the_byte_and_the_exit_code_is_the_servers():
    sent = b'no json\r\n{"a":\n[]\n{"method": 7, "id": {}}\n\xc3\x28\n[[[[[\n' + b"[" * 100_000
    done = piped(shlex.join([sys.executable, "-c", ECHO]), sent)
    head = b'{"broken": \n[7]\n\n\xff\xfe\n{"id": 1.5, "x": 1e2}\n'
    echoed = b"".join(b"got " + line for line in sent.splitlines(keepends=True))
    assert done.stdout == head + echoed + b"no end of line"
    assert done.returncode == 7
    assert b"to stderr" in done.stderr


def test_a_server_that_a_signal_ends_has_the_code_that_a_shell_gives_it():
    script = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert piped(shlex.join([sys.executable, "-c", script]), b"").returncode == 137


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--wrap", "/nowhere/server"), "cannot be started"),
        (("--wrap", "'"), "cannot be started"),
        (("--wrap", ""), "cannot be started"),
        (("--wrap", "x", "--transport", "http"), "leave --transport out"),
        (("--wrap", "x", "--method", "none"), "none"),
        (("--wrap", "http://x", "--header", "Bearer"), "no name and colon"),
    ],
    ids=str,
)
def test_what_cannot_be_wrapped_is_refused_at_the_start(words, why):
    done = tamis("mcp", *words)
    assert done.exit_code == 2
    assert why in done.output


def test_a_url_that_nobody_serves_is_an_error_of_each_request():
    ask = b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}\n'
    proxy = subprocess.Popen(
        [sys.executable, *wrapped("http://127.0.0.1:9/mcp")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    proxy.stdin.write(b"no json\n" + ask)
    proxy.stdin.flush()
    answers = [json.loads(proxy.stdout.readline()) for _ in range(2)]
    proxy.stdin.close()
    assert proxy.wait(30) == 0
    assert answers[0]["error"]["code"] == -32700
    assert answers[1]["id"] == 1
    assert "error" in answers[1]


def exchange(wrapping: Wrapped, request: dict, result: dict) -> dict:
    """The result that a client gets to a request."""
    line = json.dumps({"jsonrpc": "2.0", "id": "a"} | request).encode() + b"\n"
    assert wrapping.from_client(line) == (line, [])
    answer = json.dumps({"jsonrpc": "2.0", "id": "a", "result": result}).encode() + b"\n"
    return json.loads(wrapping.from_server(answer))["result"]


CALL = {"method": "tools/call", "params": {"name": "x", "arguments": {}}}
LONG = {"content": [{"type": "text", "text": LOG}]}


def test_a_failure_of_ours_leaves_the_result_as_it_is(monkeypatch):
    wrapping = Wrapped(Shortening(MOST))
    assert exchange(wrapping, CALL, LONG) != LONG
    monkeypatch.setattr(Wrapped, "_short", lambda *given: 1 / 0)
    assert exchange(wrapping, CALL, LONG) == LONG


@pytest.mark.parametrize(
    "result",
    [
        {"content": [{"type": "text", "text": LOG}], "isError": True},
        {"content": [{"type": "resource", "resource": {"uri": "x", "text": LOG}}]},
        {"content": LOG},
        {"content": [LOG, {"type": "text"}, None]},
        {"structuredContent": {"text": LOG}},
        {"task": {"taskId": "t"}},
    ],
    ids=lambda one: ",".join(one),
)
def test_what_is_no_text_of_a_success_stays(result):
    assert exchange(Wrapped(Shortening(MOST)), CALL, result) == result


def test_a_request_of_the_server_with_the_id_of_a_call_is_none_of_its_results():
    wrapping = Wrapped(Shortening(MOST))
    wrapping.from_client(json.dumps({"id": 1} | CALL).encode())
    asked = json.dumps({"id": 1, "method": "sampling/createMessage", "params": LONG}).encode()
    assert wrapping.from_server(asked) == asked
    answer = json.dumps({"id": 1, "result": LONG}).encode()
    assert len(wrapping.from_server(answer)) < len(answer) / 2


def test_what_another_tamis_gave_back_is_not_shortened_again():
    wrapping = Wrapped(Shortening(MOST))
    asked = {"method": "tools/call", "params": {"name": "retrieve", "arguments": {"id": "0a" * 12}}}
    assert exchange(wrapping, asked, LONG) == LONG
    asked["params"]["arguments"] = {"id": "a chapter"}
    assert exchange(wrapping, asked, LONG) != LONG


def test_a_client_that_is_gone_is_no_error_of_ours():
    command = [sys.executable, *wrapped(shlex.join([sys.executable, "-c", ECHO]))]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    proxy = subprocess.Popen(command, **pipes)
    proxy.stdout.readline()
    proxy.stdout.close()
    proxy.stdin.write(b"x\n" * 9)
    proxy.stdin.close()
    assert proxy.wait(60) == 7
    assert b"Traceback" not in proxy.stderr.read()


def test_results_in_a_batch_and_of_a_task_get_shorter():
    wrapping = Wrapped(Shortening(MOST))
    exchange(wrapping, CALL, {"task": {"taskId": "t"}})
    found = exchange(wrapping, {"method": "tasks/result", "params": {"taskId": "t"}}, LONG)
    assert len(found["content"][0]["text"]) < len(LOG) / 3
    wrapping.retrieve = "retrieve"
    ours = {"id": 2, "method": "tools/call", "params": {"name": "retrieve", "arguments": {}}}
    passed, answers = wrapping.from_client(json.dumps([{"id": 1} | CALL, ours]).encode())
    assert [one["id"] for one in json.loads(passed)] == [1]
    assert json.loads(answers[0])["id"] == 2
    batch = json.dumps([{"id": 1, "result": LONG}, {"id": 3, "result": LONG}]).encode()
    first, other = json.loads(wrapping.from_server(batch))
    assert len(first["result"]["content"][0]["text"]) < len(LOG) / 3
    assert other == {"id": 3, "result": LONG}


def test_the_tool_stands_on_the_last_page_under_a_name_that_no_page_has():
    wrapping = Wrapped(Shortening(MOST))
    first = {"tools": [{"name": "retrieve"}], "nextCursor": "2"}
    assert exchange(wrapping, {"method": "tools/list"}, first) == first
    last = {"tools": [{"name": "tamis_retrieve"}]}
    found = exchange(wrapping, {"method": "tools/list", "params": {"cursor": "2"}}, last)
    assert [tool["name"] for tool in found["tools"]] == ["tamis_retrieve", "tamis_retrieve_0"]
    again = exchange(wrapping, {"method": "tools/list"}, {"tools": []})
    assert [tool["name"] for tool in again["tools"]] == ["retrieve"]
