"""`tamis lab probe`: the commands that fit, judge and show probes, and train adapters."""

from __future__ import annotations

import typer

from tamis_lab.options.shared import RECORDS
from tamis_lab.train.commands import (
    cross,
    evaluate,
    fit,
    floors,
    gate,
    headings,
    lists,
    lora,
    rank,
    train,
)

app = typer.Typer(
    help="Fit, judge and look at the linear probes that weigh a proxy's heads.",
    no_args_is_help=True,
)
app.command("train", epilog=RECORDS)(train.train)
app.command("fit", epilog=fit.EPILOG)(fit.fit)
app.command("eval", epilog=RECORDS)(evaluate.evaluate)
app.command("calibrate", epilog=RECORDS)(evaluate.calibrate)
app.command("floors", epilog=floors.EPILOG)(floors.floors)
app.command("show")(evaluate.show)
app.command("lists", epilog=lists.EPILOG)(lists.lists)
app.command("headings", epilog=headings.EPILOG)(headings.headings)
app.command("rank", epilog=rank.EPILOG)(rank.rank)
app.command("cross", epilog=cross.EPILOG)(cross.cross)
app.command("gate", epilog=gate.EPILOG)(gate.gate)
app.command("lora", epilog=lora.EPILOG)(lora.train_adapters)
