"""Peers side by side, as terminal tables: the evidence they keep, and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

EVIDENCE_COLUMNS = ("evidence", "all", "answer", "kept", "ahead", "errors")
COST_COLUMNS = ("ms p50", "p95", "cpu", "MiB", "× ms", "× cpu")


def peer_tables(name: str, figures: Mapping[str, Any]) -> list[Table]:
    """Two tables of one set, one row per peer: by evidence, most first; by time, fastest first."""
    peers = list(figures["peers"].values())
    timed = [peer for peer in peers if "ms_p50" in peer]
    by_evidence = sorted(peers, key=lambda peer: -peer.get("evidence", -1.0))
    by_ms = sorted(timed, key=lambda peer: float(peer["ms_p50"]))
    title = (
        f"{name}: {figures['cases']} cases of {figures['mean_tokens_in']:,.0f} tokens, "
        f"budget {figures['mean_budget_tokens']:,.0f}"
    )
    return [
        _peer_table(
            title, EVIDENCE_COLUMNS, [(peer, _evidence_cells(peer)) for peer in by_evidence]
        ),
        _peer_table("", COST_COLUMNS, [(peer, _cost_cells(peer)) for peer in by_ms]),
    ]


def _peer_table(
    title: str, columns: Sequence[str], rows: Sequence[tuple[Mapping[str, Any], Sequence[Text]]]
) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left")
    table.title_style = "bold"
    table.add_column("peer", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for peer, cells in rows:
        table.add_row(Text(peer["label"], "bold" if peer["ours"] else ""), *cells)
    return table


def _evidence_cells(peer: Mapping[str, Any]) -> list[Text]:
    errors = Text(f"{peer['errors']} of {peer['cases']}" if peer["errors"] else "", "red")
    if "evidence" not in peer:
        return [*[Text("")] * (len(EVIDENCE_COLUMNS) - 1), errors]
    return [
        Text(f"{peer['evidence']:.3f}"),
        Text(f"{peer['all']:.2f}"),
        Text("-" if peer["answer"] is None else f"{peer['answer']:.2f}"),
        Text(
            f"{peer['kept']:.3f}" + (f"\n{peer['over_budget']} over" if peer["over_budget"] else "")
        ),
        _with_interval(peer.get("reference_evidence_ahead"), "difference", "{:+.2f}".format),
        errors,
    ]


def _cost_cells(peer: Mapping[str, Any]) -> list[Text]:
    return [
        Text(_format_ms(peer["ms_p50"])),
        Text(_format_ms(peer["ms_p95"])),
        Text(_format_ms(peer["cpu_ms_p50"])),
        Text(f"{peer['peak_mib']:,.0f}"),
        _with_interval(peer.get("times_reference_ms"), "ratio", _format_ratio),
        _with_interval(peer.get("times_reference_cpu_ms"), "ratio", _format_ratio),
    ]


def _with_interval(
    figure: Mapping[str, float] | None, name: str, form: Callable[[float], str]
) -> Text:
    """A figure with its interval on the next line; empty where there is none."""
    if not figure:
        return Text("")
    text = Text(form(figure[name]))
    return text.append(f"\n[{form(figure['low'])}, {form(figure['high'])}]", "dim")


def _format_ratio(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio >= 0.1 else f"1/{1 / ratio:,.0f}"


def _format_ms(ms: float) -> str:
    return f"{ms:,.0f}" if ms >= 10 else f"{ms:.1f}"


def describe_frontier(figures: Mapping[str, Any]) -> str:
    """A line with the gain in evidence and the cost in time of each step along the frontier."""
    if not figures["frontier"]:
        return "No peer answered."
    steps = [figures["peers"][name] for name in figures["frontier"]]
    parts = [
        f"{peer['label']} {peer['evidence']:.2f} in {_format_ms(peer['ms_p50'])} ms"
        for peer in steps
    ]
    for i in range(1, len(steps)):
        more = steps[i]["evidence"] - steps[i - 1]["evidence"]
        ms = steps[i]["ms_p50"] - steps[i - 1]["ms_p50"]
        parts[i] += f" (+{more:.2f} for {_format_ms(ms)} ms more)"
    return "No faster one keeps as much: " + "; ".join(parts) + "."


def peer_footnote(report: Mapping[str, Any]) -> str:
    """An explanation of the columns."""
    first, threads = report["reference"], report["threads"]
    each = f"{threads} thread{'s' if threads > 1 else ''} each"
    return (
        "evidence: mean share of gold sentences found in the kept text; all: cases with every one; "
        "answer: cases whose answer stands in it; kept: tokens kept of all, (n over) the budget; "
        f"ahead: how much more evidence {first} keeps. ms: {each}, model loaded, peers taking "
        "turns; cpu: the processes' own time; MiB: peak of the process; × ms, × cpu: as long as "
        f"{first}, medians. [95 % interval]. Failed cases are counted, and left out of means."
    )
