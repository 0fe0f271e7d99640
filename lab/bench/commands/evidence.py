"""`tamis lab bench evidence`: compares methods by the share of gold sentences that they keep."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from tamis.probes.errors import BadInput
from tamis.service.cli.display.console import make_console
from tamis.service.cli.display.errors import report_errors
from tamis_lab.options.bars import add_bar, record_bars
from tamis_lab.options.bench_options import (
    DEFAULT_DATA,
    SHARP,
    Budgets,
    ProxyName,
    ReadingsFolder,
    Seed,
    find_sets,
    parse_budgets,
    parse_list,
)
from tamis_lab.options.output_files import check_targets, write_json
from tamis_lab.options.probe_options import readings_folder

METHODS = ("question_rows", "fusion", "lexical", "embedding", "bm25+minilm", "sentinel", "lead")


@report_errors()
def evidence(
    data: Annotated[
        Path | None,
        typer.Option(help=f"Folder with the sets. Default: {DEFAULT_DATA}.", show_default=False),
    ] = None,
    sets: Annotated[str, typer.Option(help="Names of files, with commas.")] = (
        "xquad_en,hotpotqa,2wikimultihopqa,covid_qa"
    ),
    methods: Annotated[
        str | None,
        typer.Option(
            help=f"Names of methods, with commas. Default: {', '.join(METHODS)}; of these, what "
            "has a probe for the proxy.",
            show_default=False,
        ),
    ] = None,
    budgets: Budgets = "0.05,0.1,0.2,0.33",
    limit: Annotated[int, typer.Option(min=1, help="Records a set, from all over it.")] = 100,
    full: Annotated[bool, typer.Option("--full", help="All records.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for evidence.json and evidence.png.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write all figures here.")
    ] = None,
    seed: Seed = 0,
    proxy: ProxyName = SHARP,
    cache: ReadingsFolder = None,
) -> None:
    """Compare methods by the share of gold sentences they keep at each budget.

    Example: tamis lab bench evidence --data mine/ --sets support,wiki --methods
    question_rows,lexical reads mine/support.jsonl and mine/wiki.jsonl (or .jsonl.gz).
    """
    from tamis_lab.bench.evidence.panel import build_panel
    from tamis_lab.bench.evidence.plot import figure_class
    from tamis_lab.bench.evidence.table import evidence_footnote, evidence_table
    from tamis_lab.bench.evidence.tally import environment_facts

    check_targets(json_file)
    shares = parse_budgets(budgets)
    names = parse_list(methods, "methods") if methods else usual_methods(proxy)
    files = find_sets(data, parse_list(sets, "sets"))
    if out:
        figure_class()  # fail before an hour of reading, not after it
        _make_folder(out)
    models = build_panel(names, proxy, readings_folder(cache))
    found = _measure_sets(files, models.panel, shares, None if full else limit, seed, proxy)
    report = {
        "command": ["tamis", *sys.argv[1:]],
        "seed": seed,
        "proxies": list(models.proxies),
        **environment_facts(),
        "sets": found,
    }
    for name, of in found.items():
        make_console().print(evidence_table(name, of))
    make_console().print(evidence_footnote(found))
    _write_report(report, out, json_file)


def usual_methods(proxy: str) -> list[str]:
    """The default methods; prints which ones are left out for want of a probe for the proxy."""
    from tamis.compressors.registry import ships_for
    from tamis_lab.bench.evidence.panel import BLENDS

    names = [name for name in METHODS if name in BLENDS or ships_for(name, proxy)]
    if left_out := [name for name in METHODS if name not in names]:
        typer.echo(f"left out: {', '.join(left_out)} has no probe for {proxy}", err=True)
    return names


def _measure_sets(
    files: Mapping[str, Path],
    panel: Any,
    budgets: list[float],
    limit: int | None,
    seed: int,
    proxy: str,
) -> dict[str, Any]:
    """The figures of every set, with a bar for each."""
    from tamis.service.api.compress import counter_of
    from tamis_lab.bench.evidence.tally import (
        evidence_figures,
        load_gold_records,
        tally_evidence,
    )
    from tamis_lab.datasets.record_files import file_sha256

    counter, found = counter_of("proxy", proxy), {}
    with record_bars() as progress:
        for name, path in files.items():
            rows, distractors = load_gold_records(path, limit, seed)
            report = add_bar(progress, name, len(rows))
            counts = tally_evidence(rows, panel, budgets, counter, distractors, report)
            found[name] = evidence_figures(counts, seed) | {"sha256": file_sha256(path)}
    return found


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{folder} cannot be made: {error}") from error


def _write_report(report: Mapping[str, Any], out: Path | None, json_file: Path | None) -> None:
    from tamis_lab.bench.evidence.plot import draw_evidence

    for path in (json_file, out / "evidence.json" if out else None):
        if path:
            write_json(report, path)
    if out:
        draw_evidence(report["sets"], out / "evidence.png")
        typer.echo(f"wrote {out / 'evidence.png'}", err=True)
