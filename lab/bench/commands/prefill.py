"""`tamis lab bench prefill`: patterns of sparse prefill on long prompts, beside the dense pass."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tamis.probes.errors import BadInput
from tamis.service.cli.display.console import make_console
from tamis.service.cli.display.errors import report_errors
from tamis_lab.options.bars import file_bars
from tamis_lab.options.bench_options import (
    SHARP,
    ProxyName,
    Seed,
    parse_budgets,
    parse_list,
    parse_sizes,
)
from tamis_lab.options.output_files import check_images, check_targets, write_json
from tamis_lab.options.probe_options import parse_record_file

EPILOG = """
**What is measured**

Every prompt holds the passages of one question, then those of others until the length is reached,
shuffled. Each pattern runs it at each share; the dense pass runs beside it in the same process.
density: blocks of 64 tokens multiplied. coverage, least: dense attention on multiplied keys, mean
and least row. hidden: error of the states that enter the deepest layer. unit rho: rank correlation
of the units' attention, mean over heads, and the 5th percentile. gold: gold sentences kept by the
mean of eight heads, in brackets the 95 % interval of the lead over the dense pass.

**Examples**

`tamis lab bench prefill --data hotpotqa.jsonl.gz --tokens 512,2048 --prompts 8,4 --json table.json`

`tamis lab bench prefill --data mine.jsonl --patterns sample,flexprefill --shares 0.5,0.25,0.125`

`tamis lab kinds --kind pattern` lists the patterns with their papers; a new one is a file in
`lab/methods/patterns/`.
"""


@report_errors()
def prefill(
    data: Annotated[str, typer.Option("--data", help="Labelled JSONL, as FILE or FILE:LIMIT.")],
    names: Annotated[
        str | None,
        typer.Option("--patterns", help="Names, with commas. Default: all.", show_default=False),
    ] = None,
    tokens: Annotated[str, typer.Option(help="Lengths of prompts, with commas.")] = "512,2048,8000",
    prompts: Annotated[
        str, typer.Option(help="Prompts of each length, with commas; one number for all.")
    ] = "8",
    shares: Annotated[str, typer.Option(help="Of the dense pass, with commas.")] = "0.5,0.25,0.125",
    budgets: Annotated[str, typer.Option(help="Shares of the tokens kept.")] = "0.1,0.2",
    layers: Annotated[
        int | None, typer.Option(min=2, help="Run the first N layers; default two thirds.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write all figures here.")
    ] = None,
    png: Annotated[
        Path | None, typer.Option("--png", help="Draw how alike layers are, as an image.")
    ] = None,
    seed: Seed = 0,
    proxy: ProxyName = SHARP,
) -> None:
    """Compare patterns of sparse prefill: blocks, attention, evidence and time."""
    from tamis.compressors.registry import load_proxy
    from tamis_lab.bench.evidence.tally import environment_facts
    from tamis_lab.bench.prefill.bench import PrefillPlan, compare_patterns
    from tamis_lab.bench.prefill.table import draw_similarity, pattern_table
    from tamis_lab.methods.registry import PATTERNS

    check_targets(json_file)
    check_images(png)
    chosen = parse_list(names, "patterns") if names else PATTERNS.names()
    for name in chosen:
        PATTERNS.check(name)
    lengths = parse_sizes(tokens.replace("_", ""))
    file = parse_record_file(data)
    reader = load_proxy(proxy, layers)
    plan = PrefillPlan(
        tuple(chosen),
        tuple(lengths),
        _counts(prompts, len(lengths)),
        tuple(parse_budgets(shares)),
        tuple(parse_budgets(budgets)),
        layers or max(2, reader.card.layers * 2 // 3),
        seed,
    )
    with file_bars() as report:
        figures = compare_patterns(reader, file, plan, report)
    for length in lengths:
        make_console().print(pattern_table(figures["rows"], length))
    facts: dict[str, Any] = {"command": ["tamis", *sys.argv[1:]], **environment_facts()}
    if json_file:
        write_json(facts | {"proxy": proxy, "layers": plan.layers} | figures, json_file)
    if png:
        draw_similarity(figures["similarity"], png)
        typer.echo(f"wrote {png}", err=True)


def _counts(given: str, lengths: int) -> tuple[int, ...]:
    """How many prompts of each length.

    Raises:
        BadInput: not a number for each length, nor one for all.
    """
    words = [word.strip() for word in given.split(",")]
    if not all(word.isdecimal() and int(word) for word in words) or len(words) not in (1, lengths):
        raise BadInput(
            f"prompts is {given!r}; give one number from 1 on, or {lengths} with commas, one for "
            "each length"
        )
    counts = [int(word) for word in words]
    return tuple(counts * lengths if len(counts) == 1 else counts)
