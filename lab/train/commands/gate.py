"""`tamis lab probe gate`: fits what decides which windows are read to the end."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from tamis.probes.errors import BadInput
from tamis.service.cli.display.output import make_console, report_errors
from tamis_lab.options.bars import file_bars
from tamis_lab.options.output_files import check_probe_target
from tamis_lab.options.shared import (
    SHARP,
    Data,
    OwnProbe,
    ProxyName,
    ReadingsFolder,
    default_method,
    parse_record_file,
    parse_sizes,
    readings_folder,
)

EPILOG = """
**Examples**

`tamis lab probe gate --data hotpotqa.jsonl.gz:40 --data fever.jsonl.gz:40 --documents 10,30
--stage units:4:3:10:.95 --stage units:20:3:10:1.4 --out gate.safetensors`

`tamis compress docs/ -q "How are keys rotated?" --max-tokens 500 --gate gate.safetensors`

A **stage** is PURPOSE:DEPTH:MARGIN:LEAST, maybe with :FLOOR. Of a request with at least LEAST
windows, those whose best unit is more than MARGIN below the request's best after DEPTH layers end
there, but for the best FLOOR × N^.625 of N windows; DEPTH 0 judges by words, before anything is
read. With the number of layers that are read as DEPTH, those that ended are judged again beside
what was read. The purpose is units, or isolated, where MARGIN is the score itself that a window
needs.
"""
_SHARES = (0.1, 0.2)


@report_errors()
def gate(
    data: Data,
    stage: Annotated[
        list[str],
        typer.Option("--stage", metavar="STAGE", help="When windows are judged. Repeatable."),
    ],
    out: Annotated[
        Path, typer.Option("--out", help="Where to write the gate (.safetensors and .json).")
    ],
    documents: Annotated[
        str, typer.Option(help="Passages of a request, others of its set included; with commas.")
    ] = "10,30",
    probe: OwnProbe = None,
    proxy: ProxyName = SHARP,
    cache: ReadingsFolder = None,
) -> None:
    """Fit a gate, and show what its stages lose and save on domains that the fit has not seen."""
    from tamis.probes.probing.linear import ProbeCard
    from tamis_lab.datasets.record_files import describe_file, name_distinctly
    from tamis_lab.datasets.score_sources import installed_encoder_source
    from tamis_lab.train.probe.gate import fit_gate, gate_figures
    from tamis_lab.train.probe.labelled_readings import RecordReader

    stages = _parse_stages(stage)
    check_probe_target(out)
    sizes = parse_sizes(documents, "documents")
    files = name_distinctly([parse_record_file(name) for name in data])
    method, found = default_method(probe, proxy)
    if deep := [s for each in stages.values() for s in each if s.depth > method.layers]:
        raise BadInput(
            f"--stage has DEPTH {deep[0].depth}, and {method.layers} layers are read; give at most "
            "that"
        )
    folder = readings_folder(cache)
    records = RecordReader(method, folder, cosines=installed_encoder_source(folder))
    by_size = {}
    with file_bars() as report:
        for size in sizes:
            by_size[size] = list(records.read_among(files, size, report))
    card = found.card
    card = ProbeCard(
        *("gate", card.model, card.revision, card.template, card.layers, card.heads, card.rows),
        trained_on=tuple(describe_file(file, file.limit) for file in files),
        figures={
            str(size): gate_figures(cases, card, stages.get("units", ()), method, _SHARES)
            for size, cases in by_size.items()
        },
    )
    every = [case for cases in by_size.values() for case in cases]
    written = fit_gate(every, card, stages).save(out)
    make_console().print(gate_table(card.figures))
    Console(stderr=True).print(f"wrote {written}")


def _parse_stages(given: Sequence[str]) -> dict[str, list[Any]]:
    """Stages by their purpose, by depth.

    Raises:
        BadInput: one is not of the form, or of another purpose.
    """
    from tamis.compressors.features.gate import PURPOSES, Stage

    found: dict[str, list[Any]] = {}
    for text in given:
        purpose, *numbers = text.split(":")
        try:
            depth, margin, least = int(numbers[0]), float(numbers[1]), int(numbers[2])
            floor = float(numbers[3]) if numbers[3:] else 0.0
            if numbers[4:]:
                raise ValueError("five numbers")
        except (ValueError, IndexError) as error:
            raise BadInput(
                f"--stage is {text!r}; give PURPOSE:DEPTH:MARGIN:LEAST[:FLOOR], such as "
                "units:4:3:10:.95"
            ) from error
        is_finite = math.isfinite(margin) and math.isfinite(floor)
        if purpose not in PURPOSES or min(depth, floor) < 0 or least < 1 or not is_finite:
            raise BadInput(
                f"--stage is {text!r}; PURPOSE is {', '.join(PURPOSES)}, DEPTH 0 or more, LEAST 1 "
                "or more, FLOOR 0 or more"
            )
        if purpose == "isolated" and (floor or least > 1):
            raise BadInput(
                f"--stage is {text!r}; LEAST and FLOOR compare windows, and isolated ones are not "
                "compared: give 1 and 0"
            )
        found.setdefault(purpose, []).append(Stage(depth, margin, least, floor))
    return {purpose: sorted(each, key=lambda s: s.depth) for purpose, each in found.items()}


def gate_table(figures: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Table:
    """One row for each number of documents and domain."""
    shares = [f"lost at {share:g}" for share in _SHARES]
    table = Table("documents", "domain, left out", "questions", "layers run", *shares)
    for size, domains in figures.items():
        for domain, cell in domains.items():
            lost = [f"{value:+.4f}" for value in cell["lost"].values()]
            table.add_row(size, domain, str(cell["questions"]), f"{cell['cost']:.0%}", *lost)
    return table
