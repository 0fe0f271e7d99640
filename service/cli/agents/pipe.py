"""`tamis pipe` for typer: help, the reference, and errors of its command line."""

from __future__ import annotations

from tamis.service.cli.quick.options import typer_command
from tamis.service.cli.quick.pipe import OPTIONS, run

EPILOG = """
**Examples**

`set -o pipefail; pytest 2>&1 | tamis pipe -q "why does it fail?" --command pytest`

`git log -p | tamis pipe -q "who changed the timeout?" --max-tokens 2000`

`kubectl get pods -A -o json | tamis pipe --url http://localhost:8080` has a running service read it

A pipe's exit status is that of its last command: without `set -o pipefail` (bash, zsh) that of
`tamis pipe`, which is 0 and says nothing of the command before it.
"""

pipe = typer_command(run, OPTIONS)
