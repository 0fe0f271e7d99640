"""`tamis hook`: what a coding agent's tools print, shortened before its model reads it."""

from __future__ import annotations

import io
import json
import os
import sys
from inspect import Parameter
from typing import Any, BinaryIO

from tamis.compressors.options import Option
from tamis.service.agents.shortening import Shortening
from tamis.service.cli.display import EXIT_REFUSED
from tamis_agents.after import AFTER, SKIPPED_TOOLS, hook_answer, parse_event
from tamis_agents.before import (
    BEFORE,
    any_line,
    before_answer,
    is_before,
    nested_settings,
    rules_of,
)
from tamis_agents.commands import SHORTENING, print_warning, shortening_from

_SPARE_S = 5
_NO_KEY = (
    "the settings would show the key; leave --api-key out and set TAMIS_API_KEY where the agent "
    "starts"
)

EPILOG = """
**Examples**

`tamis hook claude-code --print-settings` prints what to put into ~/.claude/settings.json

`tamis hook codex --print-settings` prints the same for ~/.codex/hooks.json; Codex asks once whether
you trust it

`tamis hook claude-code --url http://localhost:8080 --print-settings` has a running service read
results with its model

`tamis hook codex --before --print-settings` has the shell's commands run by `tamis run`

`tamis hook claude-code < event.json` is what the agent does after every tool
"""
OPTIONS = (
    Option("Whose hook this is.", choices=lambda: tuple(BEFORE), is_argument=True).of(
        "agent", str, Parameter.empty
    ),
    Option("Print the agent's settings that call this, and end.").of("print_settings", bool, False),
    Option(
        f"Print settings for a hook before the shell; all but {' and '.join(AFTER)} have no other."
    ).of("before", bool, False),
    Option(
        "Let Cursor's hook allow what it rewrites: Cursor takes no other, and may not ask you."
    ).of("allow", bool, False),
    Option(
        "A tool to leave alone, by name or pattern (`mcp__*`); repeatable. Left alone in any case: "
        f"{', '.join(SKIPPED_TOOLS)}.",
        metavar="TOOL",
    ).of("skip", list[str], []),
    *SHORTENING,
)


def run(
    agent: str, print_settings: bool, before: bool, allow: bool, skip: list[str], **given: Any
) -> int:
    """Shorten what a coding agent's tools print: errors first, omissions marked.

    Reads an event. After a tool (PostToolUse) it answers with the shortened result, in the shape
    that it had; the question is the call with what the user asked last, as the transcript has it.
    Before the shell runs a command it answers with one that `tamis run` runs. Any error is a line
    on standard error and exit code 0, and everything stays as it is.
    """
    if print_settings:
        return _print_settings(agent, before, allow, given)
    stdin: BinaryIO = getattr(sys.stdin, "buffer", io.BytesIO())
    answer = None
    try:
        shortening = shortening_from(given)
        event = parse_event(stdin.read())
        if is_before(agent, event):
            found = before_answer(agent, event, _run_command(shortening), allow)
            answer = json.dumps(found).encode("ascii") if found is not None else None
        else:
            skipped = (*SKIPPED_TOOLS, *skip)
            answer = hook_answer(agent, event, shortening, skipped, print_warning)
    except Exception as error:
        why = str(error) or type(error).__name__
        print_warning(f"{why}; everything stays as it is")
    if answer is None and agent == "cursor":  # which reads an object in any case
        answer = b"{}"
    if answer is not None:
        sys.stdout.buffer.write(answer + b"\n")
        sys.stdout.buffer.flush()
    return 0


def _run_command(shortening: Shortening) -> str:
    """The command line of `tamis run` with the options that were given here.

    A budget is among them, for without one nothing is shortened in a terminal, which some agents
    give to their shells.
    """
    words: list[str] = []
    for option in SHORTENING:
        value = getattr(shortening, option.name)
        if value != option.default and option.name != "api_key":
            words += [option.flags[0]] if value is True else [option.flags[0], str(value)]
    return _shell_command(["run", *words, "--"])


def _print_settings(agent: str, before: bool, allow: bool, given: dict[str, Any]) -> int:
    from tamis.probes.errors import BadInput

    words = [word for word in sys.argv[1:] if word not in ("--print-settings", "--before")]
    is_first = before or agent not in AFTER
    try:
        timeout_s = shortening_from(given).timeout_s
        if any(word.startswith("--api-key") for word in words):
            raise BadInput(_NO_KEY)
        if is_first and BEFORE[agent].needs_allow and not allow:
            raise BadInput(
                f"{agent} takes a rewritten command only from a hook that also allows it, and may "
                "then run it without asking you; add --allow if that is what you want"
            )
    except BadInput as error:
        sys.stderr.write(f"tamis: {error}\n")
        return EXIT_REFUSED
    command = _shell_command(words)
    if is_first:
        settings = BEFORE[agent].settings(command)
        rules = rules_of(agent, os.getcwd())
        for place in dict.fromkeys(place for place, rule in rules if rule is any_line):
            print_warning(f"{place} has a rule that may match any command, so none is changed")
    else:
        settings = nested_settings("PostToolUse", "*", round(timeout_s) + _SPARE_S)(command)
    text = settings if isinstance(settings, str) else json.dumps(settings, indent=2) + "\n"
    sys.stdout.write(text)
    sys.stderr.write(f"put this into {BEFORE[agent].file}\n")
    return 0


def _shell_command(words: list[str]) -> str:
    """This program with these words for a shell, whose PATH may lack it."""
    import shlex

    return shlex.join([os.path.abspath(sys.argv[0]), *words])
