"""`bench readings`: published readings of attention beside raw attention, in one table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tamis.service.cli.display.console import make_console
from tamis.service.cli.display.errors import report_errors
from tamis_lab.options.bars import file_bars
from tamis_lab.options.bench_options import (
    SHARP,
    ProxyName,
    ReadingsFolder,
    Seed,
    parse_budgets,
    parse_list,
)
from tamis_lab.options.output_files import check_images, check_targets, write_json
from tamis_lab.options.probe_options import parse_record_file, readings_folder

DEFAULT_READINGS = (
    "raw,raw:less_empty=true,value_mass,value_mass:less_empty=true,traced,traced:less_empty=true,"
    "rollout,flow,act,act:less_empty=true,zero,sink_share,row_coverage,anchors,buckets,local_long,"
    "roles"
)
EPILOG = """
**Examples**

`tamis lab bench readings --data xquad_en.jsonl.gz:40 --data hotpotqa.jsonl.gz:40 --json table.json`

`tamis lab bench readings --data mine.jsonl --readings value_mass,zero:gamma=0.2 --png mine.png`

Columns: plain and heads, nothing fitted, the mean of all heads or of the contrast profile's
best eight; probe, fitted on this reading; added, fitted on raw attention and this reading.
Probes are judged on articles that they were not fitted on. Windows are read once for all readings
that leave the pass as it is; what is read is kept, so another run takes minutes. `tamis lab
kinds --kind reading` lists the readings with their papers; a new one is a file in
`lab/methods/readings/`.
"""


@report_errors()
def readings(
    data: Annotated[
        list[str],
        typer.Option("--data", help="Labelled JSONL to fit and judge on, as FILE:LIMIT; repeat."),
    ],
    answerable: Annotated[
        str | None,
        typer.Option(help="FILE:LIMIT with questions without an answer, judged by AUROC."),
    ] = None,
    names: Annotated[
        str,
        typer.Option("--readings", help="Names, with commas; options as zero:gamma=0.2."),
    ] = DEFAULT_READINGS,
    heads: Annotated[
        list[Path] | None,
        typer.Option(
            help="Profiles of `tamis lab heads find`, judged by their best 8. Repeatable."
        ),
    ] = None,
    budgets: Annotated[str, typer.Option(help="Shares of the tokens, with commas.")] = "0.1,0.2",
    layers: Annotated[
        int | None, typer.Option(min=1, help="Read the first N layers; default two thirds.")
    ] = None,
    timed: Annotated[
        int, typer.Option(min=0, help="Questions on which each reading is timed alone.")
    ] = 1,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write all figures here.")
    ] = None,
    png: Annotated[
        Path | None, typer.Option("--png", help="Also draw the sets as an image, last share.")
    ] = None,
    seed: Seed = 0,
    proxy: ProxyName = SHARP,
    cache: ReadingsFolder = None,
) -> None:
    """Compare readings of attention: gold kept, AUC, MRR, answerability and time."""
    from tamis.compressors.registry import load_proxy
    from tamis_lab.bench.evidence.tally import environment_facts
    from tamis_lab.bench.readings.bench import compare_readings
    from tamis_lab.bench.readings.plot import draw_readings
    from tamis_lab.bench.readings.table import other_table, reading_table

    check_targets(json_file)
    check_images(png)
    shares = parse_budgets(budgets)
    files = [parse_record_file(name) for name in data]
    judged = parse_record_file(answerable) if answerable else None
    reader = load_proxy(proxy, layers)
    depth = layers or max(1, reader.card.layers * 2 // 3)
    with file_bars() as report:
        figures = compare_readings(
            reader,
            parse_list(names, "readings"),
            files,
            judged,
            shares,
            layers=depth,
            folder=readings_folder(cache),
            timed=timed,
            seed=seed,
            report=report,
            profiles=heads or (),
        )
    for name, of in figures["sets"].items():
        for share in shares:
            make_console().print(reading_table(name, of, f"{share:g}"))
    make_console().print(other_table(figures["answerability"], figures["cost_ms"]))
    make_console().print(_verdict(figures["entering"]), highlight=False)
    facts: dict[str, Any] = {"command": ["tamis", *sys.argv[1:]], **environment_facts()}
    if json_file:
        write_json(facts | {"proxy": proxy, "layers": depth} | figures, json_file)
    if png:
        draw_readings(figures["sets"], f"{shares[-1]:g}", png)
        typer.echo(f"wrote {png}", err=True)


def _verdict(entering: dict[str, list[str]]) -> str:
    if not entering:
        return (
            "no reading beats raw when added to it: none has an interval above 0 on one set and "
            "above -0.5 points on all others"
        )
    rows = (f"{name} ({'; '.join(where)})" for name, where in entering.items())
    return f"added to raw, ahead on one set and not behind on any: {', '.join(rows)}"
