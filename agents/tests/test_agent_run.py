"""An agent at work: its provider, its tools' server and its shell, each with tamis before it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import Any

from mcp import Client

from agents.tests.gateway.chat_server import ChatServer, chat_server
from agents.tests.test_mcp_proxy import BEHIND, talk, wrapped
from tests.service.agents.recorded import ERROR, LOG, QUESTION, SUMMARY
from tests.service.cli.cli_kit import SCRIPT, process
from tests.service.http.app_kit import Running, served

PATH = "/v1/chat/completions"
FILES = "".join(f"src/app/part_{i % 7}/file_{i}.py:{i}: total = rows[{i}]\n" for i in range(400))
SHELL_ID = re.compile(r"tamis run --retrieve ([0-9a-f]{24})")
SERVER_ID = re.compile(r"; id ([0-9a-f]{24})\]")


class Agent:
    """A conversation that grows, and what the provider was sent of it last."""

    def __init__(self, service: Running, provider: ChatServer) -> None:
        self.service, self.provider = service, provider
        self.messages: list[dict[str, Any]] = [{"role": "user", "content": QUESTION}]
        self.shown: list[dict[str, Any]] = []

    def step(self, name: str, arguments: dict[str, Any], result: str) -> str:
        """A call with its result; the result as the provider reads it in the next request."""
        function = {"name": name, "arguments": json.dumps(arguments)}
        called = {"id": f"call_{len(self.messages)}", "type": "function", "function": function}
        self.messages += [
            {"role": "assistant", "content": None, "tool_calls": [called]},
            {"role": "tool", "tool_call_id": called["id"], "content": result},
        ]
        answer = self.service.post(PATH, model="m", messages=self.messages)
        assert answer.status_code == 200
        before, self.shown = self.shown, self.provider.exchanges[-1].json["messages"]
        assert self.shown[: len(before)] == before  # the provider's cache has it so
        return self.shown[-1]["content"]


def bash(command: str) -> tuple[str, str]:
    """What a shell prints for a command behind the hook, and the command that was run."""
    event = {
        "session_id": "1",
        "cwd": "/",
        "hook_event_name": "PreToolUse",
        "tool_name": "Bash",
        "tool_input": {"command": command, "description": "Look."},
    }
    asked = process("hook", "claude-code", "--ratio", 0.3, input=json.dumps(event).encode())
    if asked.stdout:
        given = json.loads(asked.stdout)["hookSpecificOutput"]["updatedInput"]["command"]
        command = f"tamis run {given.partition(' run ')[2]}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr, command


def test_ten_steps_of_an_agent(tmp_path, monkeypatch):
    monkeypatch.setenv("TAMIS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SHELL", "bash")
    (tmp_path / "tamis").write_text(f'#!/bin/sh\nexec {sys.executable} -c "{SCRIPT}" "$@"\n')
    (tmp_path / "tamis").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "log.txt").write_text(LOG)
    (tmp_path / "found.txt").write_text(FILES)
    with (
        chat_server() as provider,
        served(upstream=f"{provider.url}/v1", method="lexical") as service,
    ):
        agent = Agent(service, provider)
        # 1, 2: a command whose output is long, and one whose output is short
        printed, ran = bash(f"cat {tmp_path}/log.txt")
        assert " run " in ran
        assert {ERROR, SUMMARY} <= set(printed.splitlines())
        assert len(printed) < len(LOG) / 2
        assert agent.step("Bash", {"command": "cat log.txt"}, printed) == printed
        small, _ = bash("echo one; echo two >&2; exit 3")
        assert agent.step("Bash", {"command": "echo"}, small) == small == "one\ntwo\n"
        # 3, 4: what was left out comes back whole, and stays so
        [key] = SHELL_ID.findall(printed)
        call = {"command": f"tamis run --retrieve {key}"}
        given_back, ran = bash(call["command"])
        assert (given_back, ran) == (LOG, call["command"])
        assert agent.step("Bash", call, given_back) == LOG
        call["command"] += " --lines 151-152"
        some, _ = bash(call["command"])
        assert agent.step("Bash", call, some).splitlines() == LOG.splitlines()[150:152]
        # 5, 6, 7: a server's tool, its omissions, and a result that is short
        built, whole, tiny = talk(wrapped(BEHIND), use_server)
        assert ERROR in built.splitlines()
        assert len(built) < len(LOG) / 2
        agent.step("mcp__behind__build", {"target": "all"}, built)
        assert whole == LOG
        given = {"id": SERVER_ID.search(built)[1]}
        assert agent.step("mcp__behind__tamis_retrieve", given, whole) == LOG
        assert agent.step("mcp__behind__small", {}, tiny) == tiny
        # 8: a tool that tamis knows nothing of: the proxy shortens it on its way to the provider
        shown = agent.step("grep", {"pattern": "rows.277."}, FILES)
        assert "file_277.py:277: total = rows[277]" in shown
        assert len(shown) < len(FILES) / 2
        # 9, 10: two more, and all that went before reads as it did
        assert agent.step("Bash", {"command": "true"}, "") == ""
        last, _ = bash(f"cat {tmp_path}/found.txt | head -3")
        assert agent.step("Bash", {"command": "head"}, last) == last
        assert agent.messages[-1]["content"] == "".join(FILES.splitlines(True)[:3])
    assert len([m for m in agent.messages if m["role"] == "tool"]) == 10


async def use_server(client: Client) -> tuple[str, str, str]:
    """A long result, the same given back by its id, and a short one."""
    assert "tamis_retrieve" in [tool.name for tool in (await client.list_tools()).tools]
    built = (await client.call_tool("build", {"target": "all"})).content[0].text
    found = await client.call_tool("tamis_retrieve", {"id": SERVER_ID.search(built)[1]})
    small = await client.call_tool("small", {})
    return built, found.content[0].text, small.content[0].text
