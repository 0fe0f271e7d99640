"""`tamis bench languages`: the evidence each proxy keeps, language by language."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from tamis.probes.hub.cache_dir import cache_home
from tamis.service.cli.display.console import screen
from tamis.service.cli.display.errors import reported
from tamis.service.cli.options.bench_common import (
    Readings,
    Seed,
    Shares,
    bars,
    budgets_of,
    check_targets,
    files_of,
    listed,
    reporter,
    write_json,
)

EPILOG = """
**Examples**

`tamis bench languages --limit 50`

`tamis bench languages --languages zh --proxies smollm2-135m,gemma3-270m --json zh.json`

`tamis bench languages --data my-sets/ --set faq` reads `my-sets/faq_en.jsonl` and its like
"""


@reported()
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
    budgets: Shares = "0.1,0.2",
    limit: Annotated[int, typer.Option(min=1, help="Records a set, from all over it.")] = 150,
    seed: Seed = 0,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write all figures here.")
    ] = None,
    cache: Readings = None,
) -> None:
    """Compare proxies by language with BM25, MiniLM and both: gold kept, paired differences.

    Budgets are counted in the last proxy's tokens, for all methods.
    """
    from tamis.service.api.language_table import figures_table

    check_targets(json_file)
    names, shares = listed(proxies, "proxies"), budgets_of(budgets)
    codes = listed(tongues, "languages")
    files = files_of(data, [f"{of}_{code}" for code in codes])
    folder = cache or cache_home() / "looks"
    measured = _measured(files, codes, names, shares, limit, seed, folder)
    report = _report(measured, of, names, limit, seed)
    screen().print(figures_table(report))
    if json_file:
        write_json(report, json_file)


def _measured(
    files: Mapping[str, Path],
    codes: list[str],
    proxies: list[str],
    budgets: list[float],
    limit: int,
    seed: int,
    folder: Path,
) -> dict[str, Any]:
    """Figures of every language, with a bar for each."""
    from tamis.service.api.compress import counter_of
    from tamis.service.evaluation.evidence.evidence import records_of, sha256_of, tally
    from tamis.service.evaluation.evidence.languages import language_figures, panel_of

    panel, counter, found = panel_of(proxies, folder), counter_of("proxy", proxies[-1]), {}
    with bars() as progress:
        for code, (name, path) in zip(codes, files.items(), strict=True):
            rows, distractors = records_of(path, limit, seed)
            report = reporter(progress, name, len(rows))
            counts = tally(rows, panel, budgets, counter, distractors, report)
            found[code] = language_figures(counts, proxies, seed) | {"sha256": sha256_of(path)}
    return found


def _commit() -> str | None:
    """The commit a checkout stands at, `-dirty` with changes; None elsewhere."""
    home = Path(__file__).parent
    command = ["git", "-C", str(home), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None


def _report(
    found: dict[str, Any], of: str, proxies: list[str], limit: int, seed: int
) -> dict[str, Any]:
    from datetime import UTC, datetime

    from tamis.probes.hub.zoo import ZOO
    from tamis.service.evaluation.evidence.evidence import surroundings

    return {
        "command": ["tamis", *sys.argv[1:]],
        "date": datetime.now(UTC).date().isoformat(),
        "commit": _commit(),
        "set": of,
        "limit": limit,
        "seed": seed,
        "tokens_of": proxies[-1],
        "proxies": {name: ZOO[name].revision if name in ZOO else None for name in proxies},
        **surroundings(),
        "languages": found,
    }
