"""The table of domains in the terminal: gold kept, the best of each row marked, and regrets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from tamis_lab.bench.domains.figures import FREE


def domain_table(share: str, figures: Mapping[str, Any]) -> Table:
    """Domains and their sets, one row each; methods are columns."""
    methods = list(figures["mean_kept"])
    table = Table(title=f"Gold sentences kept at {float(share):.0%} of the tokens, domain left out")
    table.add_column("domain, set")
    table.add_column("questions", justify="right")
    for method in methods:
        table.add_column(method, justify="right")
    for domain, of in figures["domains"].items():
        questions = sum(row["questions"] for row in of["sets"].values())
        table.add_row(domain, str(questions), *_cells(of["kept"], methods), style="bold")
        if len(of["sets"]) > 1:
            for name, row in of["sets"].items():
                table.add_row(f"  {name}", str(row["questions"]), *_cells(row["kept"], methods))
        regrets = [f"{of['regret'][m]:.3f}" if m not in FREE else "" for m in methods]
        table.add_row("  regret", "", *regrets, style="dim", end_section=True)
    table.add_row("mean over sets", "", *_cells(figures["mean_kept"], methods), style="bold")
    worst = figures["largest_regret"]
    table.add_row("largest regret", "", *(f"{worst[m]:.3f}" if m in worst else "" for m in methods))
    misses = figures["misses_of_best_free"]
    table.add_row(
        "misses / best free's",
        "",
        *("" if misses[m] is None else f"{misses[m]:.2f}" for m in methods),
    )
    return table


def _cells(kept: Mapping[str, float], methods: list[str]) -> list[str]:
    best = max(kept.values())
    return [f"[green]{kept[m]:.3f}[/]" if kept[m] == best else f"{kept[m]:.3f}" for m in methods]
