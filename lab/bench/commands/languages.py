"""`tamis lab bench languages`: the evidence that each proxy keeps, by language."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from tamis.service.cli.display.console import make_console
from tamis.service.cli.display.errors import report_errors
from tamis_lab.options.bars import add_bar, record_bars
from tamis_lab.options.bench_options import (
    Budgets,
    ReadingsFolder,
    Seed,
    find_sets,
    parse_budgets,
    parse_list,
)
from tamis_lab.options.output_files import check_targets, write_json
from tamis_lab.options.probe_options import readings_folder

EPILOG = """
**Examples**

`tamis lab bench languages --limit 50`

`tamis lab bench languages --languages zh --proxies smollm2-135m,gemma3-270m --json zh.json`

`tamis lab bench languages --data my-sets/ --set faq` reads `my-sets/faq_en.jsonl` and its like
"""


@report_errors()
def languages(
    data: Annotated[
        Path | None,
        typer.Option(help="Folder with the sets. Default: ../shared/data/dev.", show_default=False),
    ] = None,
    of: Annotated[
        str, typer.Option("--set", help="What the files are called before `_` and the language.")
    ] = "xquad",
    tongues: Annotated[
        str, typer.Option("--languages", help="Codes of languages, with commas.")
    ] = "en,es,de,zh",
    proxies: Annotated[
        str, typer.Option(help="Names of proxies with commas; the first is the default one.")
    ] = "smollm2-135m,gemma3-270m",
    budgets: Budgets = "0.1,0.2",
    limit: Annotated[int, typer.Option(min=1, help="Records a set, from all over it.")] = 150,
    seed: Seed = 0,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write all figures here.")
    ] = None,
    cache: ReadingsFolder = None,
) -> None:
    """Compare proxies by language with BM25, MiniLM and both: gold kept, paired differences.

    Budgets are counted in the last proxy's tokens, for all methods.
    """
    from tamis.service.api.language_table import figures_table

    check_targets(json_file)
    names, shares = parse_list(proxies, "proxies"), parse_budgets(budgets)
    codes = parse_list(tongues, "languages")
    files = find_sets(data, [f"{of}_{code}" for code in codes])
    folder = readings_folder(cache)
    measured = _measure_languages(files, codes, names, shares, limit, seed, folder)
    report = _make_report(measured, of, names, limit, seed)
    make_console().print(figures_table(report))
    if json_file:
        write_json(report, json_file)


def _measure_languages(
    files: Mapping[str, Path],
    codes: list[str],
    proxies: list[str],
    budgets: list[float],
    limit: int,
    seed: int,
    folder: Path,
) -> dict[str, Any]:
    """The figures of every language, with a bar for each."""
    from tamis.service.api.compress import counter_of
    from tamis_lab.bench.evidence.languages import language_figures, proxy_panel
    from tamis_lab.bench.evidence.tally import load_gold_records, tally_evidence
    from tamis_lab.datasets.record_files import file_sha256

    panel, counter, found = proxy_panel(proxies, folder), counter_of("proxy", proxies[-1]), {}
    with record_bars() as progress:
        for code, (name, path) in zip(codes, files.items(), strict=True):
            rows, distractors = load_gold_records(path, limit, seed)
            report = add_bar(progress, name, len(rows))
            counts = tally_evidence(rows, panel, budgets, counter, distractors, report)
            found[code] = language_figures(counts, proxies, seed) | {"sha256": file_sha256(path)}
    return found


def _commit_hash() -> str | None:
    """The commit of this checkout, with `-dirty` if it has changes; None outside of one."""
    home = Path(__file__).parent
    command = ["git", "-C", str(home), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None


def _make_report(
    found: dict[str, Any], of: str, proxies: list[str], limit: int, seed: int
) -> dict[str, Any]:
    from datetime import UTC, datetime

    from tamis.probes.hub.zoo import ZOO
    from tamis_lab.bench.evidence.tally import environment_facts

    return {
        "command": ["tamis", *sys.argv[1:]],
        "date": datetime.now(UTC).date().isoformat(),
        "commit": _commit_hash(),
        "set": of,
        "limit": limit,
        "seed": seed,
        "tokens_of": proxies[-1],
        "proxies": {name: ZOO[name].revision if name in ZOO else None for name in proxies},
        **environment_facts(),
        "languages": found,
    }
