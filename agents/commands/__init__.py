"""`tamis pipe`, `run` and `hook`, which start in a tenth of a second, `mcp` and `estimate`.

Imports `hooks`, `mcp` and `estimate`, and of tamis the command line; no typer while a quick command
runs.
"""
