"""All commands of `tamis`, in the order in which help lists them; then those of other packages."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated, Any

import typer

from tamis.service.cli.agents import hook, mcp, pipe
from tamis.service.cli.commands import (
    ask_context,
    batch,
    cache,
    compress,
    doctor,
    index,
    keys,
    methods,
    models,
    rerank,
    serve,
)
from tamis.service.cli.display.short_help import ShortHelpCommand, hide_flag_types
from tamis.service.cli.plugin_commands import PluginGroup

EPILOG = """
**Examples**

`tamis doctor` says what is here and what is missing

`tamis compress docs/ -q "How are keys rotated?" --max-tokens 500`

`tamis compress docs/ -q "How are keys rotated?" --explain-all` shows every sentence
"""

app = typer.Typer(
    help="Keep the sentences of a retrieved context that answer a question, verbatim, within a "
    "token budget.",
    cls=PluginGroup,
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
app.command("compress", cls=ShortHelpCommand, epilog=compress.EPILOG)(compress.compress)
app.command("rerank", cls=ShortHelpCommand, epilog=rerank.EPILOG)(rerank.rerank)
app.command("ask-context", epilog=ask_context.EPILOG)(ask_context.ask_context)
app.command("pipe", epilog=pipe.EPILOG)(pipe.pipe)
app.command("hook", epilog=hook.EPILOG)(hook.hook)
app.command("mcp", epilog=mcp.EPILOG)(mcp.mcp)
app.command("methods", epilog=methods.EPILOG)(methods.methods)
app.command("doctor", epilog=doctor.EPILOG)(doctor.doctor)
app.command("serve", cls=ShortHelpCommand, epilog=serve.EPILOG)(serve.command)
app.add_typer(keys.app, name="keys")
app.add_typer(index.app, name="index")
app.add_typer(models.app, name="models")
app.add_typer(cache.app, name="cache")
app.add_typer(batch.app, name="batch")


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"tamis {version('tamis')}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """The root command; its help is on `app`."""


def root_command() -> Any:
    """The command line, with the help that is shown."""
    command = typer.main.get_command(app)
    hide_flag_types(command)
    return command
