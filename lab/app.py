"""All commands of `tamis lab`, which `tamis-lab` starts, too."""

from __future__ import annotations

import typer

from tamis.service.cli.display.short_help import finish_help
from tamis.service.cli.main import run_command_line
from tamis_lab.bench import app as bench
from tamis_lab.listing import kinds
from tamis_lab.train.commands import app as probe
from tamis_lab.train.commands import codec, heads, influence, recipe

app = typer.Typer(
    help="Measure tamis, fit what it reads with, and compare it with published methods.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
app.add_typer(bench.app, name="bench")
app.add_typer(probe.app, name="probe")
app.add_typer(heads.app, name="heads")
app.command("fit-codec", epilog=codec.EPILOG)(codec.fit)
app.command("fit-recipe", epilog=recipe.EPILOG)(recipe.fit)
app.command("influence", epilog=influence.EPILOG)(influence.select)
app.command("kinds")(kinds)


def run() -> None:
    """Runs `tamis-lab`."""
    command = typer.main.get_command(app)
    finish_help(command)
    run_command_line(lambda: command(prog_name="tamis-lab"))
