"""`tamis hook` as an agent calls it."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import pytest

from tests.service.agents.recorded import ERROR, LOG, claude_code, codex
from tests.service.cli.cli_kit import process


def test_an_event_is_answered(tmp_path):
    event = json.dumps(claude_code(tmp_path)).encode()
    done = process("hook", "claude-code", "--ratio", 0.2, input=event)
    assert (done.returncode, done.stderr) == (0, b"")
    updated = json.loads(done.stdout)["hookSpecificOutput"]["updatedToolOutput"]
    assert ERROR in updated["stdout"]
    done = process("hook", "codex", input=json.dumps(codex(tmp_path)).encode())
    assert ERROR in json.loads(done.stdout)["reason"]


@pytest.mark.parametrize(
    ("words", "event"),
    [
        ((), b"no event"),
        ((), b""),
        (("--url", "http://127.0.0.1:9"), None),
        (("--method", "none"), None),
        (("--ratio", "7"), None),
    ],
    ids=str,
)
def test_on_any_error_the_agent_keeps_the_result(tmp_path, words, event):
    given = json.dumps(claude_code(tmp_path)).encode() if event is None else event
    done = process("hook", "claude-code", *words, input=given)
    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr.endswith(b"; everything stays as it is\n")
    assert done.stderr.count(b"\n") == 1


def test_tools_that_are_skipped_get_no_answer(tmp_path):
    event = json.dumps(claude_code(tmp_path, tool_name="mcp__db__query")).encode()
    assert process("hook", "claude-code", input=event).stdout
    assert process("hook", "claude-code", "--skip", "mcp__*", input=event).stdout == b""


@pytest.mark.parametrize("agent", ["claude-code", "codex"])
def test_the_settings_call_what_printed_them(tmp_path, agent):
    """Through a shell, as agents call it."""
    script = tmp_path / "tamis"
    script.write_text(
        f"#!{sys.executable}\nfrom tamis.service.cli.main import run\nrun()\n", "utf-8"
    )
    script.chmod(0o755)
    words = [script, "hook", agent, "--skip", "a b*", "--ratio", "0.2", "--print-settings"]
    shown = subprocess.run(words, capture_output=True, check=True, timeout=600)
    (group,) = json.loads(shown.stdout)["hooks"]["PostToolUse"]
    (call,) = group["hooks"]
    assert call["type"] == "command"
    assert call["timeout"] > 30
    assert shlex.split(call["command"])[0] == str(script)
    made = {"claude-code": claude_code, "codex": codex}[agent]
    done = subprocess.run(
        call["command"], shell=True, input=json.dumps(made(tmp_path)).encode(), capture_output=True
    )
    assert ERROR in done.stdout.decode()
    assert len(done.stdout) < len(LOG) / 2


def test_a_key_is_not_written_into_settings():
    done = process("hook", "codex", "--api-key", "0123456789abcdef", "--print-settings")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"TAMIS_API_KEY" in done.stderr
    assert b"0123456789abcdef" not in done.stderr


def test_an_unknown_agent_is_an_error_that_names_those_there_are():
    done = process("hook", "hal")
    assert done.returncode == 2
    assert b"claude-code" in done.stderr


def test_a_call_without_an_agent_is_one_error_with_one_usage():
    done = process("hook", "--allow")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.lower().count(b"usage:") == 1
    assert b"Missing argument 'agent'" in done.stderr
