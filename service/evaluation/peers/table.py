"""Peers side by side, as tables in a terminal: what they keep, and what that takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

KEEPS = ("evidence", "all", "answer", "kept", "ahead", "errors")
TAKES = ("ms p50", "p95", "cpu", "MiB", "× ms", "× cpu")


def tables(name: str, found: Mapping[str, Any]) -> list[Table]:
    """One set: a row a peer, those that keep most evidence first, then those that are fastest."""
    peers = list(found["peers"].values())
    timed = [of for of in peers if "ms_p50" in of]
    by_evidence = sorted(peers, key=lambda of: -of.get("evidence", -1.0))
    by_ms = sorted(timed, key=lambda of: float(of["ms_p50"]))
    title = (
        f"{name}: {found['cases']} cases of {found['mean_tokens_in']:,.0f} tokens, "
        f"budget {found['mean_budget_tokens']:,.0f}"
    )
    return [
        _table(title, KEEPS, [(of, _keeps(of)) for of in by_evidence]),
        _table("", TAKES, [(of, _takes(of)) for of in by_ms]),
    ]


def _table(
    title: str, columns: Sequence[str], rows: Sequence[tuple[Mapping[str, Any], Sequence[Text]]]
) -> Table:
    drawn = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left")
    drawn.title_style = "bold"
    drawn.add_column("peer", no_wrap=True)
    for column in columns:
        drawn.add_column(column, justify="right", no_wrap=True)
    for of, cells in rows:
        drawn.add_row(Text(of["label"], "bold" if of["ours"] else ""), *cells)
    return drawn


def _keeps(of: Mapping[str, Any]) -> list[Text]:
    errors = Text(f"{of['errors']} of {of['cases']}" if of["errors"] else "", "red")
    if "evidence" not in of:
        return [*[Text("")] * (len(KEEPS) - 1), errors]
    return [
        Text(f"{of['evidence']:.3f}"),
        Text(f"{of['all']:.2f}"),
        Text("-" if of["answer"] is None else f"{of['answer']:.2f}"),
        Text(f"{of['kept']:.3f}" + (f"\n{of['over_budget']} over" if of["over_budget"] else "")),
        _between(of.get("reference_evidence_ahead"), "difference", "{:+.2f}".format),
        errors,
    ]


def _takes(of: Mapping[str, Any]) -> list[Text]:
    return [
        Text(_ms(of["ms_p50"])),
        Text(_ms(of["ms_p95"])),
        Text(_ms(of["cpu_ms_p50"])),
        Text(f"{of['peak_mib']:,.0f}"),
        _between(of.get("times_reference_ms"), "ratio", _times),
        _between(of.get("times_reference_cpu_ms"), "ratio", _times),
    ]


def _between(found: Mapping[str, float] | None, name: str, how: Callable[[float], str]) -> Text:
    """A figure, and its interval below."""
    if not found:
        return Text("")
    shown = Text(how(found[name]))
    return shown.append(f"\n[{how(found['low'])}, {how(found['high'])}]", "dim")


def _times(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio >= 0.1 else f"1/{1 / ratio:,.0f}"


def _ms(ms: float) -> str:
    return f"{ms:,.0f}" if ms >= 10 else f"{ms:.1f}"


def bought(found: Mapping[str, Any]) -> str:
    """What each step along the frontier costs, and what it brings."""
    if not found["frontier"]:
        return "No peer answered."
    steps = [found["peers"][name] for name in found["frontier"]]
    said = [f"{of['label']} {of['evidence']:.2f} in {_ms(of['ms_p50'])} ms" for of in steps]
    for i in range(1, len(steps)):
        more = steps[i]["evidence"] - steps[i - 1]["evidence"]
        ms = steps[i]["ms_p50"] - steps[i - 1]["ms_p50"]
        said[i] += f" (+{more:.2f} for {_ms(ms)} ms more)"
    return "No faster one keeps as much: " + "; ".join(said) + "."


def footnote(report: Mapping[str, Any]) -> str:
    """What the columns are."""
    first, threads = report["reference"], report["threads"]
    each = f"{threads} thread{'s' if threads > 1 else ''} each"
    return (
        "evidence: mean share of gold sentences found in the kept text; all: cases with every one; "
        "answer: cases whose answer stands in it; kept: tokens kept of all, (n over) the budget; "
        f"ahead: how much more evidence {first} keeps. ms: {each}, model loaded, peers taking "
        "turns; cpu: the processes' own time; MiB: peak of the process; × ms, × cpu: as long as "
        f"{first}, medians. [95 % interval]. Failed cases are counted, and left out of means."
    )
