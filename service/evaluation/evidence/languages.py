"""How much of the evidence each proxy keeps in each language, beside the best free method.

    a set a language ─ every proxy's reading, BM25, MiniLM ─► gold kept ─► paired differences

All methods are counted in one tokenizer's tokens, so a budget is the same text for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tamis.compressors import registry
from tamis.service.datasets.case_readings import Looks, keeping
from tamis.service.datasets.score_sources import Source, Stored
from tamis.service.datasets.statistics import DRAWS, paired_bootstrap
from tamis.service.evaluation.evidence.evidence import Outcome, Tally
from tamis.service.evaluation.evidence.methods import Panel, assemble
from tamis.service.training.probe import look_key

FREE = ("lexical", "embedding", "bm25+minilm")
"""What needs no proxy: the best of them is what a proxy is held against."""
METHOD = registry.DEFAULT


def panel_of(proxies: Sequence[str], folder: Path, free: Sequence[str] = FREE) -> Panel:
    """The default method over each proxy, by the proxy's name, and the free methods.

    Raises:
        ProxyMissing: a model is not on this machine.
    """
    sources: dict[str, Source] = {name: _reading(name, folder, len(proxies)) for name in proxies}
    beside = assemble(list(free), registry.DEFAULT_PROXY, folder).panel
    return Panel([*proxies, *free], {**sources, **beside.sources})


def _reading(proxy: str, folder: Path, share: int) -> Source:
    loaded = registry.load_proxy(proxy, registry.layers_needed(METHOD, proxy))
    method: Any = registry.build_method(METHOD, proxy=keeping(loaded, share))
    return Stored(method, Looks(folder, look_key(method)))


def language_figures(
    counts: Tally, proxies: Sequence[str], seed: int = 0, draws: int = DRAWS
) -> dict[str, Any]:
    """One language's figures, as JSON.

    Each proxy has its difference to the best free method of that budget and, but for the first,
    to the first proxy: `[difference, low, high]`, and the share of that method's misses it still
    misses.
    """
    free = [name for name in counts.outcomes if name not in proxies]
    budgets = list(next(iter(counts.outcomes.values())))
    return {
        "records": len(counts.gold),
        "gold_sentences": sum(counts.gold),
        "distractors": counts.distractors,
        "budgets": {f"{b:g}": _at(counts, proxies, free, b, seed, draws) for b in budgets},
    }


def _at(
    counts: Tally,
    proxies: Sequence[str],
    free: Sequence[str],
    budget: float,
    seed: int,
    draws: int,
) -> dict[str, Any]:
    at = {name: of[budget] for name, of in counts.outcomes.items()}
    best = max(free, key=lambda name: sum(at[name].found))

    def ahead(one: Outcome, other: Outcome) -> list[float]:
        found = paired_bootstrap(one.found, other.found, counts.gold, draws, seed)
        return [round(value, 4) for value in found]

    cells: dict[str, Any] = {name: {"gold_kept": _kept(counts, of)} for name, of in at.items()}
    for name in proxies:
        cells[name]["ahead_of_free"] = ahead(at[name], at[best])
        cells[name]["misses_of_free"] = _misses(counts, at[name], at[best])
        if name != proxies[0]:
            cells[name]["ahead_of_first"] = ahead(at[name], at[proxies[0]])
    return {"best_free": best, "methods": cells}


def _kept(counts: Tally, of: Outcome) -> float:
    return round(sum(of.found) / sum(counts.gold), 4)


def _misses(counts: Tally, one: Outcome, other: Outcome) -> float | None:
    """One's missed gold sentences as a share of another's; None where that misses none."""
    gold = sum(counts.gold)
    missed = gold - sum(other.found)
    return round((gold - sum(one.found)) / missed, 3) if missed else None
