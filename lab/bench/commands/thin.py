"""`bench thin`: what kept passages can lose, and in how few bytes they keep the evidence."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from tamis.probes.errors import BadInput
from tamis.service.cli.display.console import make_console
from tamis.service.cli.display.errors import report_errors
from tamis.service.cli.options.compress_options import AsJson
from tamis_lab.options.bars import file_bars
from tamis_lab.options.bench_options import (
    SHARP,
    Budgets,
    ProxyName,
    ReadingsFolder,
    Seed,
    parse_budgets,
    parse_list,
)
from tamis_lab.options.probe_options import parse_record_file, readings_folder

if TYPE_CHECKING:
    from tamis_lab.datasets.record_files import RecordFile

EPILOG = """
**Examples**

`tamis lab bench thin --judge dev/hotpotqa.jsonl.gz:40 --bank train/hotpotqa.jsonl.gz`

`tamis lab bench thin --judge dev/xquad_en.jsonl.gz:200 --bank train/squad2.jsonl.gz
--policies int8,thin,k3v2,kvcompose,sage:asked --shares 0.5,0.25 --stand-ins kvcompose`

Each passage is read once, exactly, and kept on disk in the readings folder; every row is made from
that. Rows are eviction policies at a share of all key-value pairs, `sage:asked`, which knows the
question, storages (`exact`, `int8`, `thin`) and bits of keys and values, such as `k3v2`. Lost is
what the dense pass keeps more, in points with a 95 % interval, all sets together. A row is harmless
if the upper end is at most 1 point. Times are of the processor, a passage (fill) or request (warm).
"""


@report_errors()
def thin(
    judge: Annotated[
        list[str],
        typer.Option("--judge", help="Labelled JSONL, maybe as FILE:LIMIT. Repeatable."),
    ],
    bank: Annotated[
        str, typer.Option("--bank", help="Likewise, other questions: 8 that policies may ask.")
    ],
    policies: Annotated[
        str | None, typer.Option(help="With commas; by default all, and int8 and thin.")
    ] = None,
    shares: Annotated[
        str, typer.Option(help="Of key-value pairs, with commas.")
    ] = "0.5,0.25,0.125",
    stand_ins: Annotated[
        str | None, typer.Option("--stand-ins", help="Policies to try with stand-ins, too.")
    ] = None,
    budgets: Budgets = "0.1,0.2",
    seed: Seed = 0,
    proxy: ProxyName = SHARP,
    cache: ReadingsFolder = None,
    as_json: AsJson = False,
) -> None:
    """What passages lose that are kept in part or in few bits: attention, evidence, bytes, time."""
    from tamis_lab.bench.evidence.tally import environment_facts
    from tamis_lab.bench.thin.candidates import parse_candidates
    from tamis_lab.bench.thin.run import ThinPlan, measure_thin

    files: list[RecordFile] = [parse_record_file(name) for name in judge]
    source = parse_record_file(bank)
    if source.path in {file.path for file in files}:
        raise BadInput(f"--bank and --judge both name {source.path}; the bank needs others")
    names = parse_list(policies, "policies") if policies else _all_policies()
    plan = ThinPlan(
        tuple(
            parse_candidates(
                names,
                parse_budgets(shares),
                parse_list(stand_ins, "stand-ins") if stand_ins else (),
            )
        ),
        tuple(parse_budgets(budgets)),
        source,
        readings_folder(cache),
        seed,
    )
    with file_bars() as report:
        found = measure_thin(files, plan, proxy, report)
    facts = {"command": ["tamis", *sys.argv[1:]], "seed": seed, **environment_facts(), **found}
    if as_json:
        typer.echo(json.dumps(facts))
        return
    make_console().print(_table(found))
    typer.echo(found["verdict"])


def _all_policies() -> Sequence[str]:
    from tamis_lab.methods.registry import EVICTIONS

    return ["int8", "thin", *EVICTIONS.names(), "sage:asked"]


def _table(found: Mapping[str, Any]) -> Table:
    sets = ", ".join(f"{name} {count}" for name, count in found["questions"].items())
    table = Table(title=f"{sets} questions, {found['tokens']:,} tokens", title_justify="left")
    table.add_column("kept", no_wrap=True)
    for column in ("mass", "output error", "unit rho", "5 %"):
        table.add_column(column, justify="right")
    for budget in found["rows"][0]["budgets"]:
        table.add_column(f"lost at {float(budget):g}", justify="right", no_wrap=True)
    for column in ("bytes", "int8", "fill ms", "warm ms", "harmless"):
        table.add_column(column, justify="right")
    for row in found["rows"]:
        cells = [f"{row[name]:.3f}" for name in ("mass", "output_error", "unit_rho", "unit_rho_p5")]
        for cell in row["budgets"].values():
            lost, low, high = (100 * cell[key] for key in ("lost", "low", "high"))
            cells.append(f"{lost:.1f} [{low:.1f}, {high:.1f}]")
        sizes = [f"{row[name]:,.0f}" for name in ("bytes_exact", "bytes_int8")]
        times = [f"{row[name]:,.0f}" for name in ("fill_ms", "warm_ms")]
        table.add_row(row["candidate"], *cells, *sizes, *times, "yes" if row["harmless"] else "no")
    return table
