"""A plot of recall against keys read, one line per selector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tamis_lab.bench.evidence.plot import figure_class


def draw_selectors(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Writes the plot: one panel per text length, one point per effort tried for the first head."""
    lengths = sorted({row["tokens"] for row in rows})
    figure = figure_class()(figsize=(6 * len(lengths), 4.5), layout="constrained")
    panels = figure.subplots(1, len(lengths), squeeze=False)[0]
    for panel, tokens in zip(panels, lengths, strict=True):
        for row in (row for row in rows if row["tokens"] == tokens):
            curve = row["heads"][0]["curve"]
            shares = [100 * point["share_of_keys_read"] for point in curve]
            panel.plot(shares, [p["recall_at_100"] for p in curve], "o-", label=row["selector"])
        panel.set(
            title=f"{tokens:,} tokens, head {rows[0]['heads'][0]['head']}",
            xlabel="keys read (%)",
            ylabel="recall@100",
            xscale="log",
        )
        panel.grid(alpha=0.3)
    panels[-1].legend(fontsize="small")
    figure.savefig(path)
