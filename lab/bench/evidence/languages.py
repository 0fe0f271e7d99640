"""How much evidence each proxy keeps in each language, against the best method without a proxy.

    a set a language ─ every proxy's reading, BM25, MiniLM ─► gold kept ─► paired differences

Tokens of all methods are counted by one tokenizer, so that a budget is the same amount of text for
each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tamis.compressors import registry
from tamis_lab.bench.evidence.panel import Panel, build_panel
from tamis_lab.bench.evidence.tally import BudgetOutcome, EvidenceTally
from tamis_lab.datasets.reading_store import CaseReadings, cached_reader, store_key
from tamis_lab.datasets.score_sources import ScoreSource, TwoStepSource
from tamis_lab.datasets.statistics import DRAWS, paired_bootstrap

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
