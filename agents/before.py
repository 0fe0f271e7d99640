"""Hooks before a tool: the line that an agent gives to its shell becomes one of `tamis run`.

Each agent has a shape of its own; they are those of November 2026:
lab/log/agents.md#2026-11-29-hooks-before-a-tool

Nothing here grants a permission. Where an agent takes a new line only from a hook that also allows
it, and the agent itself does not ask again, the user has to say so (`allows`).

A rule of the user's would not be found to match the new line. So a line stays as it is wherever a
rule could match it: it has, at the beginning of any word, the first word of the rule, or of a path
that the rule guards. Of a rule in a form that is not understood any line is one that it could.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

from tamis_agents.shell import part_to_run

_SHELLS = ("bash", "zsh", "sh", "dash", "ksh")
_ON_ITS_OWN = ("run_in_background", "is_background", "isBackground", "background")
_VARIABLE = re.compile(r"\$\{?[!#]?([A-Za-z_]\w*)")
_MAX_RULE_BYTES = 1 << 20
_TIMEOUT_S = 10
_QUOTES = re.compile(r"\\\n|['\"\\]")
_FIRST_WORD = re.compile(r"[\w./~@%+=-]+(?=\s|[*?]|:\*|\Z)")
_NO_LITERAL = re.compile(r"[\[\]{}()!,:\\]")
_WILDCARD = re.compile(r"[*?\[{$]")
_FILE_TOOLS = ("Read", "Edit", "Write", "MultiEdit")
"""The tools of Claude Code whose rules also apply to arguments of the shell's commands."""
_JSON_EXTRAS = (r"//[^\n]*|/\*.*?\*/", r",(?=\s*[}\]])")
"""What files of settings have beside JSON: comments, and commas behind the last of a list."""
_PROJECTS = ("CLAUDE_PROJECT_DIR", "GEMINI_PROJECT_DIR", "CURSOR_PROJECT_DIR")
_UNSEEN_RULES = ("OPENCODE_PERMISSION", "OPENCODE_CONFIG_CONTENT")
_GUARDED = (
    r"(?<![\w-])(?:rm|rmdir|dd|sudo|doas)(?![\w-])|(?<![\w.])\.(?:git|claude|codex|cursor|gemini"
    r"|opencode|copilot|vscode|idea|husky|mcp\.json|\w+rc|\w*profile)(?![\w-])"
)
"""What agents ask about without a rule: what removes, other users, files that make programs run."""
_OUTSIDE = r"(?<![\w.*?\]})])(?:/(?!dev/null)|~|\.\.(?![\w.]))|/\.\.(?![\w.])|\$[{A-Za-z]"
"""A path that may lead out of the project, which OpenCode asks about."""

MayMatch = Callable[[str, str], bool]
"""Whether a rule could match a line that is run in a folder."""


@dataclass(frozen=True, slots=True)
class BeforeTool:
    """How an agent asks before its shell runs a line.

    Attributes:
        file: where its settings are, as its user names it.
        event: what it calls this. tools: its names of the shell.
        answer: the answer that puts other arguments in place of those that the call had.
        settings: what its user puts into the file; takes the command that is called.
        rules: files with rules on commands, as patterns: below the root, the folder that a
            variable names (`NAME:`), or else the home and the project's folders.
        read: what may match, by the content of such a file. guarded: what it asks about by itself.
        needs_allow: whether it takes other arguments only along with a permission.
        shell: that runs its lines; None for the user's own.
    """

    file: str
    event: str
    tools: tuple[str, ...]
    answer: Callable[[dict[str, Any]], dict[str, Any]]
    settings: Callable[[str], Any]
    rules: tuple[str, ...] = ()
    read: Callable[[Any], Iterator[MayMatch]] = lambda content: iter(())
    guarded: str = _GUARDED
    needs_allow: bool = False
    shell: str | None = None


def any_line(line: str, folder: str) -> bool:
    """What a rule that is not understood could match."""
    return True


def _names_of(line: str) -> str:
    """A line and, below it, the same without quotes: `r\\m` and `"rm"` are `rm`."""
    return f"{line}\n{_QUOTES.sub('', line)}"


def _begins_word(word: str, line: str, folder: str) -> bool:
    return bool(re.search(rf"(?<![\w-]){re.escape(word)}", _names_of(line), re.I))


def _names_file(name: str, line: str, folder: str) -> bool:
    words = re.split(r"[\s;&|()<>=:]+", _names_of(line))
    paths = (os.path.join(folder, os.path.expanduser(word)) for word in words)
    named = (line, *words, folder, *map(os.path.realpath, paths))
    return bool(_WILDCARD.search(line)) or any(name in one.casefold() for one in named)


def _command_rules(patterns: Sequence[str], strict: bool) -> Iterator[MayMatch]:
    """Rules on commands that begin with a pattern's words.

    Args:
        strict: whether they deny or ask. Of what is allowed a form that is not understood does not
            matter.
    """
    for pattern in patterns:
        found = _FIRST_WORD.match(pattern.strip())
        word = found.group().rstrip("/").rpartition("/")[2] if found else ""
        if word.strip("./~"):
            yield partial(_begins_word, word)
        elif strict:
            yield any_line


def _file_rule(pattern: str) -> MayMatch:
    """A rule on files: their names have the longest part of its pattern that has no wildcard."""
    name = max(re.split(r"[*?/]+|^\.+/|^~", pattern), key=len).casefold()
    is_clear = name.strip(".") and not _NO_LITERAL.search(pattern)
    return partial(_names_file, name) if is_clear else any_line


def _tool_rules(rules: Any, strict: bool, tools: Sequence[str] = ("Bash",)) -> Iterator[MayMatch]:
    """Rules in the form of `Bash(git push:*)`."""
    if not isinstance(rules, list):
        raise TypeError("no list")
    for rule in rules:
        name, _, within = rule.partition("(")
        name, within = name.strip().lower(), within.strip().removesuffix(")")
        if any(fnmatchcase(tool.lower(), name) for tool in tools):
            yield from _command_rules([within], strict)
        elif strict and "Bash" in tools and name in map(str.lower, _FILE_TOOLS):
            yield _file_rule(within)


def _permissions(settings: Any, tools: Sequence[str] = ("Bash",)) -> Iterator[MayMatch]:
    """Rules of Claude Code, and of Cursor."""
    permissions = settings.get("permissions") or {}
    for kind in ("allow", "ask", "deny"):
        yield from _tool_rules(permissions.get(kind) or [], kind != "allow", tools)


def _prefix_rules(content: Any) -> Iterator[MayMatch]:
    """Rules of Codex: the first element of a pattern is a word, or a union of such."""
    for rule in (content.get("rules") or {}).get("prefix_rules") or []:
        first, strict = rule["pattern"][0], rule.get("decision", "allow") != "allow"
        if isinstance(first, dict):
            first = first.get("token") or first["any_of"]
        words = [first] if isinstance(first, str) else first
        # a line that is more than plain words is to Codex a call of the shell that reads it
        if strict and set(map(os.path.basename, words)) & set(_SHELLS):
            yield any_line
        yield from _command_rules(words, strict)


def _policies(content: Any) -> Iterator[MayMatch]:
    """Rules of Gemini CLI, in its settings, extensions and policies."""
    for holder in (content, content.get("tools") or {}):
        for key, strict in _GEMINI_LISTS.items():
            yield from _tool_rules(holder.get(key) or [], strict, _GEMINI_TOOLS)
    if any(content.get(key) for key in ("policyPaths", "adminPolicyPaths", "safety_checker")):
        yield any_line
    for rule in content.get("rule") or []:
        prefixes, strict = rule.get("commandPrefix") or [], rule.get("decision") != "allow"
        names, prefixes = (
            [one] if isinstance(one, str) else one for one in (rule.get("toolName", "*"), prefixes)
        )
        if "mcpName" in rule or not any(fnmatchcase(_GEMINI_TOOLS[0], name) for name in names):
            continue
        if strict and (not prefixes or "commandRegex" in rule or "argsPattern" in rule):
            yield any_line
        yield from _command_rules(prefixes, strict)


def _actions(config: Any) -> Iterator[MayMatch]:
    """Rules of OpenCode, of all and of single agents."""
    holders = [config]
    while holders:
        holder = holders.pop()
        inner = holder.values() if isinstance(holder, dict) else holder
        holders += [one for one in inner if isinstance(one, dict | list)]
        given = holder.get("permission") if isinstance(holder, dict) else None
        tools = given if isinstance(given, dict) else {"*": given or "allow"}
        for actions in (tools[name] for name in tools if fnmatchcase("bash", name)):
            patterns = actions if isinstance(actions, dict) else {"*": actions}
            for pattern, action in patterns.items():
                yield from _command_rules([pattern], action != "allow")


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


_GEMINI_TOOLS = ("run_shell_command", "ShellTool")
_GEMINI_LISTS = dict.fromkeys(("exclude", "excludeTools", "confirmationRequired"), True)
_GEMINI_LISTS |= dict.fromkeys(("allowed", "allowedTools", "core", "coreTools"), False)
_GEMINI_FILES = (
    *("settings.json", "policies/*.toml", "extensions/*/gemini-extension.json"),
    "extensions/*/policies/*.toml",
)
BEFORE = {
    # without a decision the new line is asked for as any other
    "claude-code": BeforeTool(
        "~/.claude/settings.json",
        "PreToolUse",
        ("Bash",),
        _updated_input(),
        nested_settings("PreToolUse", "Bash", _TIMEOUT_S),
        (
            *(".claude/*settings*.json", "CLAUDE_CONFIG_DIR:*settings*.json"),
            *(
                "/etc/claude-code/managed-settings.json",
                "/etc/claude-code/managed-settings.d/*.json",
            ),
            "/Library/Application Support/ClaudeCode/managed-settings*.json",
            "/Library/Application Support/ClaudeCode/managed-settings.d/*.json",
        ),
        _permissions,
    ),
    # which refuses a new line without "allow", and then asks by its own policy all the same
    "codex": BeforeTool(
        "~/.codex/hooks.json",
        "PreToolUse",
        ("Bash",),
        _updated_input(permissionDecision="allow"),
        nested_settings("PreToolUse", "Bash", _TIMEOUT_S),
        (
            *(".codex/rules/*.rules", "CODEX_HOME:rules/*.rules", "/etc/codex/rules/*.rules"),
            *(".codex/requirements.toml", "/etc/codex/requirements.toml"),
        ),
        _prefix_rules,
    ),
    "cursor": BeforeTool(
        "~/.cursor/hooks.json",
        "preToolUse",
        ("Shell", "Bash"),
        lambda given: {"permission": "allow", "updated_input": given},
        _listed_settings(
            lambda command: {"command": command, "matcher": "Shell", "timeout": _TIMEOUT_S}
        ),
        (
            *(".cursor/cli-config.json", ".cursor/cli.json", "CURSOR_CONFIG_DIR:cli-config.json"),
            "XDG_CONFIG_HOME:cursor/cli-config.json",
        ),
        lambda settings: _permissions(settings, ("Shell",)),
        needs_allow=True,
    ),
    "gemini-cli": BeforeTool(
        "~/.gemini/settings.json",
        "BeforeTool",
        ("run_shell_command",),
        lambda given: {"hookSpecificOutput": {"hookEventName": "BeforeTool", "tool_input": given}},
        nested_settings("BeforeTool", "run_shell_command", _TIMEOUT_S * 1000),
        (
            *(f"{at}.gemini/{file}" for at in ("", "GEMINI_CLI_HOME:") for file in _GEMINI_FILES),
            *("/etc/gemini-cli/*.json", "/etc/gemini-cli/policies/*.toml"),
            *("GEMINI_CLI_SYSTEM_SETTINGS_PATH:", "GEMINI_CLI_SYSTEM_DEFAULTS_PATH:"),
            "/Library/Application Support/GeminiCli/*.json",
            "/Library/Application Support/GeminiCli/policies/*.toml",
        ),
        _policies,
        shell="bash",
    ),
    "opencode": BeforeTool(
        "~/.config/opencode/plugins/tamis.js",
        "tool.execute.before",
        ("bash",),
        lambda given: {"command": given["command"]},
        _plugin,
        (
            *("opencode.json*", "OPENCODE_CONFIG:", "/etc/opencode/opencode.json*"),
            *(
                f"{folder}{file}"
                for folder in (".opencode/", ".config/opencode/", "OPENCODE_CONFIG_DIR:")
                for file in ("opencode.json*", "agent*/**/*.md", "mode*/**/*.md")
            ),
            *("XDG_CONFIG_HOME:opencode/opencode.json*", "XDG_CONFIG_HOME:opencode/agent*/**/*.md"),
        ),
        _actions,
        f"{_GUARDED}|{_OUTSIDE}",
    ),
    "copilot-cli": BeforeTool(
        "~/.copilot/hooks/tamis.json",
        "preToolUse",
        ("bash",),
        lambda given: {"modifiedArgs": given},
        _listed_settings(
            lambda line: dict(type="command", bash=line, matcher="bash", timeoutSec=_TIMEOUT_S)
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
    written = rewrite(line, run, shape.shell or _own_shell())
    folder = str(event.get("cwd") or Path.cwd())
    if written is None or re.search(shape.guarded, _names_of(line)):
        return None
    if any(may_match(line, folder) for _, may_match in rules_of(agent, folder)):
        return None
    return shape.answer({**given, "command": written})


def rewrite(line: str, run: str, shell: str) -> str | None:
    """The line with what prints in it run by `tamis run`, in the same shell; None to leave it.

    What changes the shell itself stays in it: `cd src && tamis run -- bash -c 'make'`. A variable
    that is not in the environment may be the shell's own, which no other process sees.
    """
    at = part_to_run(line)
    if at is None or not set(_VARIABLE.findall(line)) <= os.environ.keys():
        return None
    return f"{line[:at]}{run} {shlex.quote(shell)} -c {shlex.quote(line[at:])}"


def _own_shell() -> str:
    shell = os.environ.get("SHELL", "")
    return shell if os.path.basename(shell) in _SHELLS else "bash"


def rules_of(agent: str, folder: str) -> Iterator[tuple[str, MayMatch]]:
    """The user's rules on commands: where each stands, and what it may match."""
    shape = BEFORE[agent]
    yield from ((name, any_line) for name in _UNSEEN_RULES if os.environ.get(name))
    for file in _rule_files(shape, Path(folder)):
        try:
            yield from ((str(file), rule) for rule in shape.read(_content(file)))
        except Exception:  # whatever it is, it may be a rule
            yield str(file), any_line


def _rule_files(shape: BeforeTool, folder: Path) -> Iterator[Path]:
    projects = [Path(os.environ[name]) for name in _PROJECTS if os.environ.get(name)]
    projects = [one for at in (folder, Path.cwd(), *projects) for one in (at, *at.parents)]
    for pattern in shape.rules:
        variable, colon, below = pattern.rpartition(":")
        above: Sequence[Path] = (Path.home(), *projects)
        if colon:
            above = [Path(os.environ[variable])] if os.environ.get(variable) else ()
        elif below.startswith("/"):
            above, below = [Path("/")], below[1:]
        for at in dict.fromkeys(above):
            yield from at.glob(below) if below else [at] * at.exists()


def _content(file: Path) -> Any:
    """What a file of settings says, as JSON has it."""
    data = file.read_bytes()
    if len(data) > _MAX_RULE_BYTES:
        raise ValueError("too long")
    text = data.decode("utf-8-sig")
    if not text.strip():
        return {}
    if file.suffix == ".md":  # an agent of OpenCode's, with YAML in front
        return {"permission": "ask" if "permission" in text else "allow"}
    if file.suffix == ".toml":
        import tomllib

        return tomllib.loads(text)
    if file.suffix == ".rules":
        return {"rules": {"prefix_rules": list(_starlark_calls(text))}}
    for extra in _JSON_EXTRAS:
        text = re.sub(
            rf'("(?:\\.|[^"\\])*")|{extra}', lambda found: found[1] or " ", text, flags=re.S
        )
    return json.loads(text)


def _starlark_calls(text: str) -> Iterator[dict[str, Any]]:
    """The arguments of each `prefix_rule` of a file for Codex, which is read as Python."""
    import ast

    for line in ast.parse(text).body:
        if not isinstance(line, ast.Expr) or not isinstance(line.value, ast.Call):
            raise ValueError("no call")
        name = ast.unparse(line.value.func)
        if name == "prefix_rule" and not line.value.args:
            yield {str(one.arg): ast.literal_eval(one.value) for one in line.value.keywords}
        elif name not in ("host_executable", "network_rule"):
            raise ValueError("another call")
