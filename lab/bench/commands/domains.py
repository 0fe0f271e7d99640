"""`tamis lab bench domains`: every domain judged by a probe that was fitted on all the others."""

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
    parse_budgets,
)
from tamis_lab.options.output_files import check_images, check_targets, write_json
from tamis_lab.options.probe_options import readings_folder

EPILOG = """
**Example**

`tamis lab bench domains --data ../shared/data/train --data manuals/ --judge ../shared/data/dev`

The domain of a set is known by its name; a set that no domain names is a domain of its own. Regret
is how far a method is below the best free one (BM25, MiniLM, their sum) on a domain; misses are the
gold sentences lost, in parts of the best free method's.
"""


@report_errors()
def domains(
    data: Annotated[
        list[Path],
        typer.Option("--data", help="Folder with labelled sets to fit on and judge; repeatable."),
    ],
    judge: Annotated[
        list[Path] | None,
        typer.Option("--judge", help="Folder with sets that are only judged; repeatable."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Questions a set to fit on and judge.")] = 40,
    judge_limit: Annotated[int, typer.Option(min=1, help="Questions a set to judge.")] = 120,
    shares: Annotated[
        str, typer.Option("--budgets", help="Shares of the tokens, with commas.")
    ] = "0.1,0.2",
    layers: Annotated[
        int | None, typer.Option(min=1, help="Read the first N layers; default two thirds.")
    ] = None,
    proxy: ProxyName = SHARP,
    cache: ReadingsFolder = None,
    png: Annotated[
        Path | None, typer.Option("--png", help="Also draw the domains as an image.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write all figures here.")
    ] = None,
) -> None:
    """Leave one domain out: fit a probe on all others, and judge it on the one left out.

    Readings are kept, so that another fit takes minutes. Without the sentence encoder the table has
    no columns for it; get it with `tamis models pull minilm-l6`.
    """
    from tamis.compressors.registry import load_proxy
    from tamis_lab.bench.domains.figures import domain_figures
    from tamis_lab.bench.domains.plot import draw_domains
    from tamis_lab.bench.domains.readings import Sides, read_domains
    from tamis_lab.bench.domains.table import domain_table
    from tamis_lab.bench.evidence.tally import environment_facts

    check_targets(json_file)
    check_images(png)
    budgets = parse_budgets(shares)
    reader = load_proxy(proxy, layers)
    depth = layers or max(1, reader.card.layers * 2 // 3)
    folder = readings_folder(cache)
    with file_bars() as report:
        cases, judged = read_domains(
            reader, depth, Sides(data, limit, judge or (), judge_limit), folder, report
        )
        figures = domain_figures(cases, [*cases, *judged], budgets, report)
    for share, of in figures.items():
        make_console().print(domain_table(share, of))
    report_json: dict[str, Any] = {
        "command": ["tamis", *sys.argv[1:]],
        "limit": limit,
        "judge_limit": judge_limit,
        "proxy": proxy,
        "layers": depth,
        **environment_facts(),
        "shares": figures,
    }
    if json_file:
        write_json(report_json, json_file)
    if png:
        draw_domains(figures, png)
