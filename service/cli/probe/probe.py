"""`tamis probe`: fit a probe to a proxy, judge it, look at it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.console import Console

from tamis.service.cli.display.errors import reported
from tamis.service.cli.options.bench_common import RECORDS, SHARP, check_images, check_probe_target
from tamis.service.cli.options.options import AsJson
from tamis.service.cli.options.probe_common import file_bars, probe_of, readings, source_of
from tamis.service.cli.probe.show import draw, draw_coverage, head_map, show_figures, terminal_map

if TYPE_CHECKING:
    from tamis.probes.probing.linear import LinearProbe

app = typer.Typer(
    help="Fit, judge and look at the linear probes that weigh a proxy's heads.",
    no_args_is_help=True,
)
Data = Annotated[
    list[str],
    typer.Option(
        "--data", help="Labelled JSONL, maybe as FILE:LIMIT to use LIMIT questions. Repeatable."
    ),
]
ProxyName = Annotated[
    str, typer.Option("--proxy", help="A zoo name, a folder, or a hub id on this machine.")
]
Cache = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        help="Where readings are kept; a refit then takes seconds. Default: the user's cache.",
    ),
]
ProbeFile = Annotated[
    Path | None,
    typer.Argument(
        help="A probe's .safetensors; by default the one that ships.", show_default=False
    ),
]


Articles = Annotated[
    list[str] | None,
    typer.Option(
        "--articles",
        help="Likewise, with all passages of a title joined into one long document; LIMIT counts "
        "the questions on each. Repeatable.",
    ),
]


@app.command(epilog=RECORDS)
@reported()
def train(
    data: Data,
    out: Annotated[
        Path, typer.Option("--out", help="Where to write the probe (.safetensors and .json).")
    ],
    proxy: ProxyName = SHARP,
    method: Annotated[str, typer.Option(help="question_rows, or sentinel.")] = "question_rows",
    layers: Annotated[
        int | None, typer.Option(min=1, help="Read the first N layers; default two thirds.")
    ] = None,
    read_layers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Read so many and use the first --layers: one reading serves several depths.",
        ),
    ] = None,
    loss: Annotated[
        str | None, typer.Option(help="listwise, or logistic. Default: listwise.")
    ] = None,
    l2: Annotated[
        float | None, typer.Option(help="Weight of the squared norm. Default: .01.")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="sentinel only: published, or like-cases. Default: published."),
    ] = None,
    articles: Articles = None,
    cache: Cache = None,
) -> None:
    """Fit a probe on labelled questions; a fifth of the articles is held out for its figures.

    Example: tamis probe train --proxy ./my-model --data train.jsonl.gz --out my-probe.safetensors
    """
    from tamis.compressors.registry import load_proxy
    from tamis.probes.probing.fit import check_l2
    from tamis.service.training.probe import train as fit
    from tamis.service.training.probe.sentinel import Recipe, train_sentinel

    _check_choice("method", method, ("question_rows", "sentinel"))
    if recipe is not None:
        _check_choice("recipe", recipe, ("published", "like-cases"))
    given = {"layers": layers, "read-layers": read_layers, "loss": loss, "l2": l2}
    if method == "sentinel":
        published = recipe != "like-cases"
        _refuse_unused(method, given | ({"articles": articles or None} if published else {}))
    else:
        _refuse_unused(method, {"recipe": recipe})
    check_l2(l2 := 0.01 if l2 is None else l2)
    check_probe_target(out)
    files = [source_of(name) for name in data]
    files += [replace(source_of(name), articles=True) for name in articles or ()]
    with file_bars() as report:
        if method == "sentinel":
            reader, way = load_proxy(proxy, None), "published" if published else "like-cases"
            probe = train_sentinel(reader, files, readings(cache), cast(Recipe, way), report)
        else:
            reader = load_proxy(proxy, read_layers or layers)
            depth, loss = layers or max(1, reader.card.layers * 2 // 3), loss or "listwise"
            probe, _ = fit(reader, files, readings(cache), depth, report, loss, l2, read_layers)
    written = probe.save(out)
    show_figures(probe.card.figures)
    Console(stderr=True).print(f"wrote {written}")


@app.command("eval", epilog=RECORDS)
@reported()
def evaluate(
    data: Data,
    probe: ProbeFile = None,
    proxy: ProxyName = SHARP,
    cache: Cache = None,
    as_json: AsJson = False,
    png: Annotated[
        Path | None,
        typer.Option("--png", help="Also draw coverage asked against coverage reached."),
    ] = None,
) -> None:
    """Judge a probe on labelled questions it was not fitted on: evidence, calibration, coverage."""
    from tamis.service.training.probe import figures_of, kept_promises

    check_images(png)
    found, cases = _read(probe, proxy, data, cache)
    figures = {"held_out": figures_of(found, cases), "promises": kept_promises(found, cases)}
    if as_json:
        typer.echo(json.dumps(figures["held_out"] | {"promises": figures["promises"]}))
    else:
        show_figures(figures)
    if png:
        draw_coverage(found.card.figures.get("coverage", {}), figures["promises"], png)


@app.command(epilog=RECORDS)
@reported()
def calibrate(
    data: Data,
    out: Annotated[Path, typer.Option("--out", help="Where to write the calibrated probe.")],
    probe: ProbeFile = None,
    proxy: ProxyName = SHARP,
    cache: Cache = None,
) -> None:
    """Fit a probe's probabilities to your own labelled questions; its order of sentences stays."""
    from tamis.service.training.probe import recalibrated

    check_probe_target(out)
    found, cases = _read(probe, proxy, data, cache)
    written = recalibrated(found, cases).save(out)
    Console(stderr=True).print(f"wrote {written}, calibrated on {len(cases)} questions")


@app.command()
@reported()
def show(
    probe: ProbeFile = None,
    png: Annotated[
        Path | None, typer.Option("--png", help="Also draw the map as an image.")
    ] = None,
    method: Annotated[str, typer.Option(help="Which shipped probe.")] = "question_rows",
    proxy: ProxyName = SHARP,
) -> None:
    """Draw which heads a probe trusts, layer by layer: green for, red against."""
    found = probe_of(probe, method, proxy)
    grid = head_map(found)
    Console().print(terminal_map(grid))
    show_figures(found.card.figures)
    if png:
        draw(grid, png, found)


def _check_choice(option: str, given: str, choices: Sequence[str]) -> None:
    from tamis.probes.errors import BadInput

    if given not in choices:
        raise BadInput(f"--{option} is {given!r}; give {' or '.join(choices)}")


def _refuse_unused(method: str, given: Mapping[str, Any]) -> None:
    """BadInput: an option that the method does not use."""
    from tamis.probes.errors import BadInput

    if used := [f"--{name}" for name, value in given.items() if value is not None]:
        raise BadInput(f"{method} does not use {', '.join(used)}; leave out what is not used")


def _read(
    probe: Path | None, proxy: str, data: list[str], cache: Path | None
) -> tuple[LinearProbe, list[Any]]:
    from tamis.compressors.methods.question_rows import QuestionRows
    from tamis.compressors.registry import load_proxy
    from tamis.probes.errors import BadInput
    from tamis.service.datasets.case_readings import keeping
    from tamis.service.training.probe import distinct, read_cases

    found = probe_of(probe, "question_rows", proxy)
    method = QuestionRows(keeping(load_proxy(proxy, found.card.layers)), found)
    with file_bars() as report:
        files = distinct([source_of(name) for name in data])
        cases = list(read_cases(method, files, readings(cache), report))
    if not cases:
        raise BadInput(
            f"no question of {', '.join(data)} has both gold and other sentences; "
            "nothing can be judged"
        )
    return found, cases
