"""`tamis hook`: what a tool returned to a coding agent, shortened before its model reads it."""

from __future__ import annotations

import io
import json
import os
import sys
from inspect import Parameter
from typing import Any, BinaryIO

from tamis.compressors.options import Option
from tamis.service.agents.hook import HOOK_AGENTS, SKIPPED_TOOLS, hook_answer, hook_settings
from tamis.service.cli.display import EXIT_REFUSED
from tamis.service.cli.quick.options import SHORTENING, print_warning, shortening_from

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

`tamis hook claude-code < event.json` is what the agent does after every tool
"""
OPTIONS = (
    Option("Whose hook this is.", choices=lambda: tuple(HOOK_AGENTS), is_argument=True).of(
        "agent", str, Parameter.empty
    ),
    Option("Print the agent's settings that call this, and end.").of("print_settings", bool, False),
    Option(
        "A tool to leave alone, by name or pattern (`mcp__*`); repeatable. Left alone in any case: "
        f"{', '.join(SKIPPED_TOOLS)}.",
        metavar="TOOL",
    ).of("skip", list[str], []),
    *SHORTENING,
)


def run(agent: str, print_settings: bool, skip: list[str], **given: Any) -> int:
    """Shorten what a tool returned to a coding agent: errors first, omissions marked.

    Reads the event of a PostToolUse hook and answers with the shortened result, in the shape that
    it had. The question is the call with what the user asked last, as the transcript has it.
    Without an answer the agent keeps the result: so it is for small results, for tools to leave
    alone, and for any error, which is a line on standard error and exit code 0.
    """
    if print_settings:
        return _print_settings(agent, given)
    stdin: BinaryIO = getattr(sys.stdin, "buffer", io.BytesIO())
    try:
        shortening = shortening_from(given)
        skipped = (*SKIPPED_TOOLS, *skip)
        answer = hook_answer(agent, stdin.read(), shortening, skipped, print_warning)
    except Exception as error:
        why = str(error) or type(error).__name__
        print_warning(f"{why}; the result stays as it is")
        return 0
    if answer is not None:
        sys.stdout.buffer.write(answer + b"\n")
        sys.stdout.buffer.flush()
    return 0


def _print_settings(agent: str, given: dict[str, Any]) -> int:
    from tamis.probes.errors import BadInput

    words = [word for word in sys.argv[1:] if word != "--print-settings"]
    try:
        timeout_s = shortening_from(given).timeout_s
        if any(word.startswith("--api-key") for word in words):
            raise BadInput(_NO_KEY)
    except BadInput as error:
        sys.stderr.write(f"tamis: {error}\n")
        return EXIT_REFUSED
    settings = hook_settings(_shell_command(words), round(timeout_s) + _SPARE_S)
    sys.stdout.write(json.dumps(settings, indent=2) + "\n")
    sys.stderr.write(f"put this into {HOOK_AGENTS[agent].file}\n")
    return 0


def _shell_command(words: list[str]) -> str:
    """This program with these words for a shell, whose PATH may lack it."""
    import shlex

    return shlex.join([os.path.abspath(sys.argv[0]), *words])
