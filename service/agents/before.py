"""Hooks before a tool: the line that an agent gives to its shell becomes one of `tamis run`.

Each agent has a shape of its own; they are those of November 2026:
lab/log/agents.md#2026-11-29-hooks-before-a-tool

Nothing here grants a permission. Where an agent takes a new line only from a hook that also allows
it, and the agent itself does not ask again, the user has to say so (`allows`). A program that one
of the user's own rules names is left alone: the rule would not be found to match the new line.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tamis.service.agents.shell import part_to_run

_SHELLS = ("bash", "zsh", "sh", "dash", "ksh")
_ON_ITS_OWN = ("run_in_background", "is_background", "isBackground", "background")
_RULE = re.compile(
    r'(?:Bash|Shell|shell|run_shell_command)\(\s*([^\s:()"*]+)'
    r'|pattern\s*=\s*\[\s*"([^"]+)"|commandPrefix"?\s*[=:]\s*\[?\s*"([^"\s]+)'
)
_BASH_RULES = re.compile(r'"bash"\s*:\s*\{([^{}]*)\}')
_BASH_RULE = re.compile(r'"([^"\s*]+)[^"]*"\s*:')
_VARIABLE = re.compile(r"\$\{?[!#]?([A-Za-z_]\w*)")
_MAX_RULE_BYTES = 1 << 20
_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class BeforeTool:
    """How an agent asks before its shell runs a line.

    Attributes:
        event: what it calls this. tools: its names of the shell.
        answer: the answer that puts other arguments in place of those that the call had.
        settings: what its user puts into the file; takes the command that is called.
        rules: files with rules on commands, as patterns below the home and the project's folders.
        needs_allow: whether it takes other arguments only along with a permission.
        shell: that runs its lines; None for the user's own.
    """

    event: str
    tools: tuple[str, ...]
    answer: Callable[[dict[str, Any]], dict[str, Any]]
    settings: Callable[[str], Any]
    rules: tuple[str, ...] = ()
    needs_allow: bool = False
    shell: str | None = None


def _updated_input(**decision: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda given: {
        "hookSpecificOutput": {"hookEventName": "PreToolUse", **decision, "updatedInput": given}
    }


def nested_settings(event: str, tool: str, timeout: int) -> Callable[[str], Any]:
    """The settings that call a command at an event of a tool, in the form of most agents."""

    def settings(command: str) -> Any:
        call = {"type": "command", "command": command, "timeout": timeout}
        return {"hooks": {event: [{"matcher": tool, "hooks": [call]}]}}

    return settings


def _listed_settings(call: Callable[[str], dict[str, Any]]) -> Callable[[str], Any]:
    """The same in the form of agents that list the commands of an event."""
    return lambda command: {"version": 1, "hooks": {"preToolUse": [call(command)]}}


def _plugin(command: str) -> str:
    """A plugin for OpenCode, which has no hooks of commands."""
    words = json.dumps(shlex.split(command))
    written = Path(__file__).with_name("opencode.js").read_text("utf8")
    return written.replace("TIMEOUT_MS", str(_TIMEOUT_S * 1000)).replace("WORDS", words)


BEFORE = {
    # without a decision the new line is asked for as any other
    "claude-code": BeforeTool(
        "PreToolUse",
        ("Bash",),
        _updated_input(),
        nested_settings("PreToolUse", "Bash", _TIMEOUT_S),
        (".claude/settings.json", ".claude/settings.local.json", "claude-code/managed-*.json"),
    ),
    # which refuses a new line without "allow", and then asks by its own policy all the same
    "codex": BeforeTool(
        "PreToolUse",
        ("Bash",),
        _updated_input(permissionDecision="allow"),
        nested_settings("PreToolUse", "Bash", _TIMEOUT_S),
        (".codex/rules/*.rules", "codex/rules/*.rules"),
    ),
    "cursor": BeforeTool(
        "preToolUse",
        ("Shell", "Bash"),
        lambda given: {"permission": "allow", "updated_input": given},
        _listed_settings(
            lambda command: {"command": command, "matcher": "Shell", "timeout": _TIMEOUT_S}
        ),
        (".cursor/cli-config.json", ".cursor/cli.json"),
        needs_allow=True,
    ),
    "gemini-cli": BeforeTool(
        "BeforeTool",
        ("run_shell_command",),
        lambda given: {"hookSpecificOutput": {"hookEventName": "BeforeTool", "tool_input": given}},
        nested_settings("BeforeTool", "run_shell_command", _TIMEOUT_S * 1000),
        (".gemini/settings.json", ".gemini/policies/*.toml"),
        shell="bash",
    ),
    "opencode": BeforeTool(
        "tool.execute.before",
        ("bash",),
        lambda given: {"command": given["command"]},
        _plugin,
        (".config/opencode/opencode.json*", "opencode.json*"),
    ),
    "copilot-cli": BeforeTool(
        "preToolUse",
        ("bash",),
        lambda given: {"modifiedArgs": given},
        _listed_settings(
            lambda line: {
                "type": "command",
                "bash": line,
                "matcher": "bash",
                "timeoutSec": _TIMEOUT_S,
            }
        ),
        shell="bash",
    ),
}


def is_before(agent: str, event: Mapping[str, Any]) -> bool:
    """Whether an event is that of a tool which has not run; not every agent says which it is."""
    name = event.get("hook_event_name")
    return name == BEFORE[agent].event or (name is None and "toolArgs" in event)


def before_answer(
    agent: str, event: Mapping[str, Any], run: str, allows: bool = False
) -> dict[str, Any] | None:
    """The answer by which a line is run by `tamis run`; None where it stays as it is.

    Args:
        run: the command line of `tamis run`, up to and with its `--`.
        allows: whether the user lets this hook allow what it rewrites.
    """
    shape = BEFORE[agent]
    given = event.get("tool_input", event.get("toolArgs"))
    if isinstance(given, str):
        given = json.loads(given)
    name = event.get("tool_name", event.get("toolName"))
    if name not in shape.tools or not isinstance(given, dict) or (shape.needs_allow and not allows):
        return None
    line = given.get("command")
    if not isinstance(line, str) or any(given.get(key) for key in _ON_ITS_OWN):
        return None
    if given.get("mode") not in (None, "sync"):
        return None
    ruled = _ruled_programs(shape, event.get("cwd"))
    written = rewrite(line, run, shape.shell or _own_shell(), ruled)
    return None if written is None else shape.answer({**given, "command": written})


def rewrite(line: str, run: str, shell: str, ruled: frozenset[str] = frozenset()) -> str | None:
    """The line with what prints in it run by `tamis run`, in the same shell; None to leave it.

    What changes the shell itself stays in it: `cd src && tamis run -- bash -c 'make'`. A variable
    that is not in the environment may be the shell's own, which no other process sees.
    """
    at = part_to_run(line, ruled)
    if at is None or not set(_VARIABLE.findall(line)) <= os.environ.keys():
        return None
    return f"{line[:at]}{run} {shlex.quote(shell)} -c {shlex.quote(line[at:])}"


def _own_shell() -> str:
    shell = os.environ.get("SHELL", "")
    return shell if os.path.basename(shell) in _SHELLS else "bash"


def _ruled_programs(shape: BeforeTool, cwd: Any) -> frozenset[str]:
    """The programs that rules of the user name, in the agent's settings."""
    found: set[str] = set()
    project = Path(cwd) if isinstance(cwd, str) else Path.cwd()
    for folder in dict.fromkeys((Path.home(), Path("/etc"), project, *project.parents)):
        for file in (file for pattern in shape.rules for file in folder.glob(pattern)):
            try:
                text = file.read_bytes()[:_MAX_RULE_BYTES].decode("utf-8", "replace")
            except OSError:
                continue
            found |= {word for words in _RULE.findall(text) for word in words if word}
            for rules in _BASH_RULES.findall(text):
                found |= set(_BASH_RULE.findall(rules))
    return frozenset(map(os.path.basename, found))
