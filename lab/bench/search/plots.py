"""Two plots: recall against keys read, and milliseconds against the size of the corpus."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tamis_lab.bench.evidence.plot import figure_class


def draw_recall(report: Mapping[str, Any], path: Path) -> None:
    """Recall against keys read at the largest size, a line a structure, a point an effort."""
    row = report["sizes"][-1]
    figure = figure_class()(figsize=(6, 4.2), layout="constrained")
    panel = figure.subplots()
    for name, curve in row["curves"].items():
        shares = [100 * point["keys_read"] for point in curve]
        panel.plot(shares, [p["recall_at_10_keys"] for p in curve], "o-", label=f"{name}, keys")
        panel.plot(shares, [p["recall_at_10"] for p in curve], "s--", label=f"{name}, with BM25")
    panel.set(
        title=f"{row['tokens']:,} keys", xlabel="keys read (%)", ylabel="recall@10", xscale="log"
    )
    panel.grid(alpha=0.3)
    panel.legend(fontsize="small")
    figure.savefig(path)


def draw_growth(report: Mapping[str, Any], path: Path) -> None:
    """CPU milliseconds of a search against tokens, both logarithmic, a line a system."""
    rows = report["sizes"]
    figure = figure_class()(figsize=(6, 4.2), layout="constrained")
    panel = figure.subplots()
    for name, slope in report["growth"].items():
        points = [(r["tokens"], r["systems"][name]["cpu_ms_p50"]) for r in rows]
        label = name if slope is None else f"{name}, slope {slope:.2f}"
        panel.plot([n for n, _ in points], [ms for _, ms in points], "o-", label=label)
    panel.set(xlabel="tokens", ylabel="CPU ms (median)", xscale="log", yscale="log")
    panel.grid(alpha=0.3)
    panel.legend(fontsize="small")
    figure.savefig(path)
