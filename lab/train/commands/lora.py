"""`tamis lab probe lora`: trains low-rank adapters that sharpen the attention of a proxy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from tamis.compressors.registry import DEFAULT_PROXY
from tamis.service.cli.display.output import report_errors
from tamis_lab.options.output_files import check_images

EPILOG = """
**Examples**

`tamis lab probe lora --data hotpotqa.jsonl.gz:220 --data squad2.jsonl.gz:520 --out sharp/` a file
with fewer questions than asked for comes again, with other passages beside them

`tamis lab probe lora --proxy ./my-model --data mine.jsonl --questions 500 --out sharp/ --png
curve.png` the same command goes on where it was stopped

`tamis lab probe lora --proxy ./my-model --data mine.jsonl --questions 800 --behind sharp/ --out
sharper/` eight hundred more of the same file: what was given to `sharp/`, with another `--out`

`tamis lab probe train --proxy sharp/ --data mine.jsonl --out sharp.safetensors` then fits its probe

`tamis compress docs/ -q "Who?" --proxy sharp/ --probe sharp.safetensors`

On one core without a GPU a question takes about a second, and the 40 that judge ten seconds each
time. Adapters of rank 8 are below 1 MB.
"""


@report_errors()
def train_adapters(
    data: Annotated[
        list[str],
        typer.Option(
            "--data", help="Labelled JSONL, maybe as FILE:N to draw N questions. Repeatable."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", help="Folder for adapters, checkpoint and curve; resumes if begun."),
    ],
    proxy: Annotated[
        str, typer.Option("--proxy", help="A zoo name, a folder, or a hub id on this machine.")
    ] = DEFAULT_PROXY,
    questions: Annotated[
        int | None, typer.Option(min=1, help="Learn from at most N of all drawn, in random order.")
    ] = None,
    rank: Annotated[int, typer.Option(min=1, help="Of each adapter.")] = 8,
    layers: Annotated[
        int | None, typer.Option(min=1, help="Read the first N layers; default two thirds.")
    ] = None,
    first_layer: Annotated[
        int | None,
        typer.Option(min=0, help="Adapt from this layer on; default two fifths of those read."),
    ] = None,
    projections: Annotated[
        str, typer.Option(help="Adapted: letters of q(uery), k(ey), v(alue), o(utput).")
    ] = "qk",
    rate: Annotated[float, typer.Option(min=0, help="Highest learning rate.")] = 1e-3,
    question_tokens: Annotated[
        int,
        typer.Option(min=1, help="Of the passages shown with a question; gold ones always are."),
    ] = 400,
    seed: Annotated[int, typer.Option(help="Of adapters, and of the order of questions.")] = 0,
    judge: Annotated[
        int, typer.Option(min=1, help="Held-out questions a judgement, all files alike.")
    ] = 40,
    every: Annotated[
        int, typer.Option(min=1, help="Questions between judgements, each with a checkpoint.")
    ] = 250,
    behind: Annotated[
        Path | None,
        typer.Option(help="Folder of a finished run to go on with, on the questions it left."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Of the sharpened model; by default the folder's name.")
    ] = None,
    png: Annotated[Path | None, typer.Option("--png", help="Also draw the curve.")] = None,
) -> None:
    """Teach a proxy where to look: low-rank adapters on its attention projections.

    Everything else stays frozen. Of a proxy that has adapters, new ones are trained above them, and
    those written hold both. With `--behind` the same adapters learn on, with the moments of their
    optimizer: the loss first rises with the rate, so judge at the end. Questions come with their
    gold passages and hard ones beside; the loss is the one the probe is fitted with. A fifth of the
    articles is held out for the curve. Adapters are merged when the folder is loaded, so reading
    costs what it cost before.
    """
    from tamis.compressors.registry import load_proxy
    from tamis.probes.hub.zoo import adapters_of
    from tamis_lab.options.bars import file_bars
    from tamis_lab.options.shared import parse_record_file
    from tamis_lab.train.lora.export import stack_adapters, trained_adapters
    from tamis_lab.train.lora.recipe import LoraRecipe
    from tamis_lab.train.lora.training_run import build_training_run

    check_images(png)
    reader = load_proxy(proxy, layers)
    depth = min(layers or max(1, reader.card.layers * 2 // 3), reader.card.layers)
    first = depth * 2 // 5 if first_layer is None else first_layer
    recipe = LoraRecipe(
        depth=depth,
        first_layer=first,
        rank=rank,
        projections=projections,
        rate=rate,
        question_tokens=question_tokens,
        seed=seed,
    )
    files = [parse_record_file(given) for given in data]
    run = build_training_run(reader, files, recipe, out, questions, judge, every, behind)
    with file_bars() as report:
        curve = run.run(report)
    learnt = trained_adapters(run, curve, name or out.resolve().name, _absolute_proxy(proxy))
    if (below := adapters_of(proxy)) is not None:
        learnt = stack_adapters(learnt, below)
    learnt.save(out)
    Console(width=None if Console().is_terminal else 120).print(_curve_table(curve))
    if png:
        draw_curve(curve, png)
    Console(stderr=True).print(f"wrote {out}, for --proxy {out}; fit its probe with probe train")


def _absolute_proxy(proxy: str) -> str:
    """The name of a proxy, or the absolute path of its folder, valid from any working folder."""
    from tamis.probes.hub.zoo import ZOO

    return str(Path(proxy).resolve()) if proxy not in ZOO and Path(proxy).is_dir() else proxy


def _curve_table(curve: Sequence[dict[str, Any]]) -> Table:
    """Loss and gold kept on held-out articles, a row per evaluation."""
    table = Table(
        "questions",
        "loss",
        "held-out loss",
        "gold kept, heads and words",
        "gold kept, heads alone",
        title="Held-out articles: gold kept in a fifth of the tokens shown, mean of the files",
    )
    for row in curve:
        held_out = row["held_out"]
        kept = [f"{_mean(held_out['kept'][head].values()):.3f}" for head in ("first", "alone")]
        loss = "" if row["loss"] is None else f"{row['loss']:.3f}"
        table.add_row(str(row["questions"]), loss, f"{held_out['loss']:.3f}", *kept)
    return table


def draw_curve(curve: Sequence[dict[str, Any]], path: Path) -> None:
    """Draws loss on the left and gold kept by file on the right, over the questions trained on."""
    from tamis_lab.options.figures import make_figure, save_figure

    figure = make_figure(10, 4.5)
    left, right = figure.subplots(1, 2)
    questions = [row["questions"] for row in curve]
    trained = [row for row in curve if row["loss"] is not None]
    left.plot(
        [row["questions"] for row in trained],
        [row["loss"] for row in trained],
        ".--",
        label="learnt",
    )
    left.plot(questions, [row["held_out"]["loss"] for row in curve], "o-", label="held out")
    left.set(xlabel="questions learnt from", ylabel="listwise loss, nats")
    left.legend()
    for source in curve[0]["held_out"]["kept"]["first"]:
        kept = [row["held_out"]["kept"]["first"][source] for row in curve]
        right.plot(questions, kept, ".-", label=source)
    right.set(xlabel="questions learnt from", ylabel="held-out gold kept in a fifth of the tokens")
    right.legend(fontsize="small")
    save_figure(figure, path)


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / max(1, len(found))
