"""`tamis hook` for typer: help, the reference, and errors of its command line."""

from __future__ import annotations

from tamis.service.cli.quick.hook import OPTIONS, run
from tamis.service.cli.quick.options import typer_command

EPILOG = """
**Examples**

`tamis hook claude-code --print-settings` prints what to put into ~/.claude/settings.json

`tamis hook codex --print-settings` prints the same for ~/.codex/hooks.json; Codex asks once whether
you trust it

`tamis hook claude-code --url http://localhost:8080 --print-settings` has a running service read
results with its model

`tamis hook claude-code < event.json` is what the agent does after every tool
"""

hook = typer_command(run, OPTIONS)
