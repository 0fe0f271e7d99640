"""Commands that start in a tenth of a second: for pipes, and for hooks behind every call of a tool.

Imports `agents` and what that may import, and no typer while such a command runs.
"""
