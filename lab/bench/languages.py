"""`tamis lab bench languages`: the evidence that each proxy keeps, by language.

How much evidence each proxy keeps in each language, against the best method without a proxy.

    a set a language ─ every proxy's reading, BM25, MiniLM ─► gold kept ─► paired differences

Tokens of all methods are counted by one tokenizer, so that a budget is the same amount of text for
each of them.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from tamis.compressors import registry
from tamis.probes.hub.zoo import ZOO
from tamis.service.api.compress import counter_of
from tamis.service.cli.display.output import report_errors
from tamis_lab.bench.evidence import BudgetOutcome, EvidenceTally, tally_sets
from tamis_lab.bench.panel import Panel, build_panel
from tamis_lab.bench.study import Study
from tamis_lab.datasets.reading_store import CaseReadings, cached_reader, store_key
from tamis_lab.datasets.record_files import RecordFile, file_sha256
from tamis_lab.datasets.score_sources import ScoreSource, TwoStepSource
from tamis_lab.datasets.statistics import DRAWS, paired_bootstrap
from tamis_lab.options import shared

EPILOG = """
**Examples**

`tamis lab bench languages --limit 50`

`tamis lab bench languages --languages zh --proxies smollm2-135m,gemma3-270m --json`

`tamis lab bench languages --data my-sets/ --set faq` reads `my-sets/faq_en.jsonl` and its like
"""


@report_errors()
def languages(
    data: shared.SetsFolder = None,
    of: Annotated[
        str, typer.Option("--set", help="What the files are called before `_` and the language.")
    ] = "xquad",
    tongues: Annotated[
        str, typer.Option("--languages", help="Codes of languages, with commas.")
    ] = "en,es,de,zh",
    proxies: Annotated[
        str, typer.Option(help="Names of proxies with commas; the first is the default one.")
    ] = "smollm2-135m,gemma3-270m",
    budgets: shared.Budgets = "0.1,0.2",
    limit: shared.Limit = 150,
    seed: shared.Seed = 0,
    results: shared.Results = None,
    as_json: shared.Json = False,
    cache: shared.ReadingsFolder = None,
) -> None:
    """Compare proxies by language with BM25, MiniLM and both: gold kept, paired differences.

    Budgets are counted in the last proxy's tokens, for all methods.
    """
    study = Study(as_json, results=results)
    names, shares = shared.parse_list(proxies, "proxies"), shared.parse_budgets(budgets)
    files = shared.find_sets(
        data, [f"{of}_{code}" for code in shared.parse_list(tongues, "languages")]
    )
    hashes = {name: file_sha256(path) for name, path in files.items()}
    made = {"proxies": names, "budgets": shares, "limit": limit, "seed": seed, "sha256": hashes}
    study.keep_rows(made)
    panel, counter = (
        proxy_panel(names, shared.readings_folder(cache)),
        counter_of("proxy", names[-1]),
    )
    chosen = [RecordFile(path, limit, display_name=name) for name, path in files.items()]
    with study.bars():
        tallies = tally_sets(chosen, panel, shares, counter, seed, study)
    found = {
        name.removeprefix(f"{of}_"): language_figures(counts, names, seed)
        | {"sha256": hashes[name]}
        for name, counts in tallies.items()
    }
    report = {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": _commit_hash(),
        "set": of,
        "limit": limit,
        "seed": seed,
        "tokens_of": names[-1],
        "proxies": {name: ZOO[name].revision if name in ZOO else None for name in names},
        "languages": found,
    }
    study.publish(report, lambda: [figures_table(report)])


def _commit_hash() -> str | None:
    """The commit of this checkout, with `-dirty` if it has changes; None outside of one."""
    home = Path(__file__).parent
    command = ["git", "-C", str(home), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None


def figures_table(report: Mapping[str, Any]) -> Table:
    """Figures of `tamis lab bench languages` as a table, one row per language and budget."""
    methods = list(next(iter(_cells(report)))[2]["methods"])
    table = Table("language", "budget", *methods, title=_title(report), title_justify="left")
    for code, budget, figures in _cells(report):
        table.add_row(code, f"{float(budget):.0%}", *(_cell(figures, name) for name in methods))
    return table


def _cells(report: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for code, language in report["languages"].items():
        for budget, figures in language["budgets"].items():
            yield code, budget, figures


def _cell(figures: Mapping[str, Any], name: str) -> Text:
    own = figures["methods"][name]
    cell = Text(f"{100 * own['gold_kept']:.1f}", "bold" if name == figures["best_free"] else "")
    if ahead := own.get("ahead_of_free"):
        difference, low, high = (100 * value for value in ahead)
        style = "green" if low > 0 else "red" if high < 0 else "dim"
        cell.append(f"\n{difference:+.1f} [{low:.1f}, {high:.1f}]", style)
    return cell


def _title(report: Mapping[str, Any]) -> str:
    records = {of["records"] for of in report["languages"].values()}
    return (
        f"{report['set']}, {'/'.join(map(str, sorted(records)))} questions a language: per cent of "
        f"gold sentences kept, in tokens of {report['tokens_of']}; below, ahead of the best free "
        "method (bold) with its 95 % interval"
    )


PROXY_FREE_METHODS = ("lexical", "embedding", "bm25+minilm")
"""Methods without a proxy; each proxy is compared with the best of them."""
METHOD = registry.DEFAULT


def proxy_panel(
    proxies: Sequence[str], folder: Path, free: Sequence[str] = PROXY_FREE_METHODS
) -> Panel:
    """The default method over each proxy, under the proxy's name, and the proxy-free methods.

    Raises:
        ProxyMissing: a model is not on this machine.
    """
    sources: dict[str, ScoreSource] = {
        name: _proxy_source(name, folder, len(proxies)) for name in proxies
    }
    proxy_free = build_panel(list(free), registry.DEFAULT_PROXY, folder).panel
    return Panel([*proxies, *free], {**sources, **proxy_free.sources})


def _proxy_source(proxy: str, folder: Path, sharers: int) -> ScoreSource:
    loaded = registry.load_proxy(proxy, registry.layers_needed(METHOD, proxy))
    method: Any = registry.build_method(METHOD, proxy=cached_reader(loaded, sharers))
    return TwoStepSource(method, CaseReadings(folder, store_key(method)))


def language_figures(
    counts: EvidenceTally, proxies: Sequence[str], seed: int = 0, draws: int = DRAWS
) -> dict[str, Any]:
    """The figures of one language, as JSON.

    For each proxy and budget: `[difference, low, high]` to the best proxy-free method and, except
    for the first proxy, to the first proxy; and its missed gold sentences as a share of those that
    the best proxy-free method misses.
    """
    free = [name for name in counts.outcomes if name not in proxies]
    budgets = list(next(iter(counts.outcomes.values())))
    return {
        "records": len(counts.gold),
        "gold_sentences": sum(counts.gold),
        "distractors": counts.distractors,
        "budgets": {
            f"{b:g}": _budget_figures(counts, proxies, free, b, seed, draws) for b in budgets
        },
    }


def _budget_figures(
    counts: EvidenceTally,
    proxies: Sequence[str],
    free: Sequence[str],
    budget: float,
    seed: int,
    draws: int,
) -> dict[str, Any]:
    at = {name: outcome[budget] for name, outcome in counts.outcomes.items()}
    best = max(free, key=lambda name: sum(at[name].gold_kept))

    def ahead(one: BudgetOutcome, other: BudgetOutcome) -> list[float]:
        interval = paired_bootstrap(one.gold_kept, other.gold_kept, counts.gold, draws, seed)
        return [round(value, 4) for value in interval]

    cells: dict[str, Any] = {
        name: {"gold_kept": _share_kept(counts, outcome)} for name, outcome in at.items()
    }
    for name in proxies:
        cells[name]["ahead_of_free"] = ahead(at[name], at[best])
        cells[name]["misses_of_free"] = _share_of_misses(counts, at[name], at[best])
        if name != proxies[0]:
            cells[name]["ahead_of_first"] = ahead(at[name], at[proxies[0]])
    return {"best_free": best, "methods": cells}


def _share_kept(counts: EvidenceTally, outcome: BudgetOutcome) -> float:
    return round(sum(outcome.gold_kept) / sum(counts.gold), 4)


def _share_of_misses(
    counts: EvidenceTally, one: BudgetOutcome, other: BudgetOutcome
) -> float | None:
    """The missed gold sentences of one as a share of the other's; None if the other misses none."""
    gold = sum(counts.gold)
    missed = gold - sum(other.gold_kept)
    return round((gold - sum(one.gold_kept)) / missed, 3) if missed else None
