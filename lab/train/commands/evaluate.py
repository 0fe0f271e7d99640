"""`probe eval`, `calibrate` and `show`: evaluates, calibrates and draws a fitted probe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from tamis.compressors.registry import DEFAULT
from tamis.service.cli.display.output import report_errors
from tamis.service.cli.options.compress_options import AsJson
from tamis_lab.options.bars import file_bars
from tamis_lab.options.output_files import check_images, check_probe_target
from tamis_lab.options.shared import (
    SHARP,
    Data,
    ProbeFile,
    ProxyName,
    ReadingsFolder,
    default_method,
    named_or_shipped_probe,
    parse_record_file,
    readings_folder,
)
from tamis_lab.train.commands.probe_plots import (
    draw_coverage,
    draw_weight_map,
    head_weights,
    print_figures,
    weight_map_text,
)

if TYPE_CHECKING:
    from tamis.probes.probing.linear import LinearProbe


@report_errors()
def evaluate(
    data: Data,
    probe: ProbeFile = None,
    proxy: ProxyName = SHARP,
    cache: ReadingsFolder = None,
    as_json: AsJson = False,
    png: Annotated[
        Path | None,
        typer.Option("--png", help="Also draw coverage asked against coverage reached."),
    ] = None,
) -> None:
    """Judge a probe on labelled questions it was not fitted on: evidence, calibration, coverage."""
    from tamis_lab.train.probe.coverage import reached_coverage
    from tamis_lab.train.probe.figures import probe_figures

    check_images(png)
    found, cases, _ = _read_cases(probe, proxy, data, cache)
    figures = {"held_out": probe_figures(found, cases), "promises": reached_coverage(found, cases)}
    if as_json:
        typer.echo(json.dumps(figures["held_out"] | {"promises": figures["promises"]}))
    else:
        print_figures(figures)
    if png:
        draw_coverage(found.card.figures.get("coverage", {}), figures["promises"], png)


@report_errors()
def calibrate(
    data: Data,
    out: Annotated[Path, typer.Option("--out", help="Where to write the calibrated probe.")],
    probe: ProbeFile = None,
    proxy: ProxyName = SHARP,
    cache: ReadingsFolder = None,
    answerability: Annotated[
        bool,
        typer.Option(
            "--answerability",
            help="Fit how likely a context holds its answer, and the floors of the verdict, in "
            "place of the probabilities of sentences. Some questions must have no answer.",
        ),
    ] = False,
) -> None:
    """Fit a probe's probabilities to your own labelled questions; its order of sentences stays."""
    from tamis_lab.train.probe.answerability import refit_answerability
    from tamis_lab.train.probe.fitting import recalibrate

    check_probe_target(out)
    found, cases, others = _read_cases(probe, proxy, data, cache, answerability)
    new = refit_answerability(found, cases, *others) if answerability else recalibrate(found, cases)
    count = len(cases) + sum(map(len, others))
    Console(stderr=True).print(f"wrote {new.save(out)}, calibrated on {count} questions")


@report_errors()
def show(
    probe: ProbeFile = None,
    png: Annotated[
        Path | None, typer.Option("--png", help="Also draw the map as an image.")
    ] = None,
    method: Annotated[str, typer.Option(help="Which shipped probe.")] = DEFAULT,
    proxy: ProxyName = SHARP,
) -> None:
    """Draw which heads a probe trusts, layer by layer: green raises, red lowers the score."""
    found = named_or_shipped_probe(probe, method, proxy)
    grid = head_weights(found)
    Console().print(weight_map_text(grid))
    print_figures(found.card.figures)
    if png:
        draw_weight_map(grid, png, found)


def _read_cases(
    probe: Path | None, proxy: str, data: list[str], cache: Path | None, with_absent: bool = False
) -> tuple[LinearProbe, list[Any], list[list[Any]]]:
    """A probe, the labelled questions as it reads them, and what else was asked for.

    That is questions without an answer, and excerpts of a few sentences.

    Raises:
        BadInput: no question has both gold and other sentences.
    """
    from tamis.probes.errors import BadInput
    from tamis_lab.datasets.record_files import name_distinctly
    from tamis_lab.datasets.score_sources import installed_encoder_source
    from tamis_lab.train.probe.labelled_readings import RecordReader

    method, found = default_method(probe, proxy)
    with file_bars() as report:
        files = name_distinctly([parse_record_file(name) for name in data])
        folder = readings_folder(cache)
        reader = RecordReader(method, folder, cosines=installed_encoder_source(folder))
        cases, others = list(reader.read_answerable(files, report)), list[list[Any]]()
        if with_absent:
            others = [
                list(read(files, report))
                for read in (reader.read_unanswerable, reader.read_excerpts)
            ]
    if not cases:
        raise BadInput(
            f"no question of {', '.join(data)} has both gold and other sentences; "
            "nothing can be judged"
        )
    return found, cases, others
