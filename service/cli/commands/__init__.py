"""The commands of `tamis`, one module each; `serve` has `keys`, too.

Imports `cli.display` and `cli.options`, and `http`, `batch`, `api`, `datasets`, `files`,
`retrieval`, `compressors` and `probes`; heavy packages only inside functions.
"""

from tamis.probes.plugins import AGENTS

COMMANDS = {
    "compress": "compress:compress",
    "rerank": "rerank:rerank",
    "ask-context": "ask_context:ask_context",
    "pipe": AGENTS,
    "run": AGENTS,
    "hook": AGENTS,
    "mcp": AGENTS,
    "methods": "methods:methods",
    "doctor": "doctor:doctor",
    "estimate": AGENTS,
    "serve": "serve:command",
    "keys": "serve:keys_app",
    "index": "index:app",
    "models": "models:app",
    "cache": "cache:app",
    "batch": "batch:app",
}
"""The function of each command, or its `typer.Typer`, below this package; or what brings it."""
