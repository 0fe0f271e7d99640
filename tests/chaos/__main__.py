"""Runs all fault tests: `python -m tests.chaos`, or `make chaos`.

    python -m tests.chaos                    all, with their full number of faults
    python -m tests.chaos --share 0.1        a tenth of the faults
    python -m tests.chaos --only drain,index

Prints what was promised, and of the faults injected how many were survived and what was lost. The
exit code is 1 if any promise was broken.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.chaos import flips, linear_time, patterns, service_faults
from tests.chaos.batch import kill_repeatedly
from tests.chaos.come_back import come_back
from tests.chaos.hostile import send_hostile_bodies
from tests.chaos.index_kills import run as index_kills
from tests.chaos.mended import MENDED
from tests.chaos.promise import FaultOutcome, Promise
from tests.chaos.small_requests import run_small_requests
from tests.probes.kv_cache.test_disk import count_kills_while_writing


def batch(folder: Path, kills: int, draw: random.Random) -> FaultOutcome:
    """A batch killed and resumed."""
    found = kill_repeatedly(folder, kills, draw.randrange(1 << 30))
    whole = found.same and found.verified
    observed = f"{found.between_parts} between first and last part"
    return FaultOutcome(found.killed, found.killed if whole else 0, int(not whole), observed)


def writers(folder: Path, kills: int, draw: random.Random) -> FaultOutcome:
    """Writers of an index killed; raises AssertionError at the first that loses something."""
    found = index_kills(folder / "index", kills, draw.randrange(1 << 30))
    return FaultOutcome(kills, kills, 0, f"{found['commits']} commits")


def cache_writers(folder: Path, kills: int, draw: random.Random) -> FaultOutcome:
    """Writers of kept passages killed; raises AssertionError at a damaged entry."""
    torn = count_kills_while_writing(folder, kills, draw)
    return FaultOutcome(kills, kills, 0, f"{torn} in the middle of a file")


def slow_patterns(folder: Path, count: int, draw: random.Random) -> FaultOutcome:
    """Patterns of the source on texts that are made to take them long."""
    found = [one for one in patterns.find_patterns() if not patterns.is_bounded(one)]
    chosen = draw.sample(found, min(count, len(found)))
    slow = [str(bad) for bad in map(patterns.slowness_of, chosen) if bad is not None]
    assert not slow, "; ".join(slow)
    return FaultOutcome(len(chosen), len(chosen), 0, f"{len(found)} patterns")


def linear_parsers(folder: Path, count: int, draw: random.Random) -> FaultOutcome:
    """Parsers on texts that repeat one part; raises AssertionError at the first that is slow."""
    all_cases = list(linear_time.cases())
    chosen = draw.sample(all_cases, min(count, len(all_cases)))
    for name, part in chosen:
        linear_time.check_growth(name, part)
    return FaultOutcome(len(chosen), len(chosen), 0, f"{len(linear_time.PARSERS)} parsers")


def linear_stages(folder: Path, count: int, draw: random.Random) -> FaultOutcome:
    """Stages on texts of two halves; raises AssertionError at the first that is slow."""
    chosen = draw.sample(list(linear_time.stage_cases()), count)
    for case in chosen:
        linear_time.check_stage(*case)
    return FaultOutcome(count, count, 0, f"{len(linear_time.STAGES)} stages")


def mended_patterns(folder: Path, examples: int, draw: random.Random) -> FaultOutcome:
    """Patterns that were slow; raises AssertionError at one that is, or that finds other things."""
    used = {one.source: one for one in patterns.find_patterns()}
    for one in MENDED:
        one.compare(examples)
        now = used[one.now.pattern]
        assert patterns.slowness_of(now) is None, now
        assert patterns.slowness_of(replace(now, source=one.before)) is not None, one.before
    return FaultOutcome(examples, examples, 0, f"{len(MENDED)} patterns")


PROMISES = (
    Promise(
        "batch-kill",
        "a batch that is killed and resumed writes the bytes of an undisturbed one",
        50,
        batch,
    ),
    Promise(
        "index-kill",
        "a killed writer leaves every acknowledged change, none by half, and the lock free",
        100,
        writers,
    ),
    Promise(
        "index-rot",
        "a damaged byte anywhere in an index with keys is named; no search answers otherwise",
        400,
        flips.index,
    ),
    Promise(
        "cache-kill",
        "a process killed while it keeps a passage leaves whole entries only",
        50,
        cache_writers,
    ),
    Promise(
        "cache-rot",
        "a damaged kept passage is named, dropped and read anew",
        200,
        flips.cache,
    ),
    Promise("probe-rot", "the damaged weights of a probe are refused", 400, flips.probe),
    Promise(
        "worker",
        "a dead model thread costs the requests of its batch one 503; those that wait are served",
        50,
        service_faults.kill_workers,
    ),
    Promise(
        "hang-up",
        "clients that leave anywhere in a request cost the next nothing, and leave nothing behind",
        300,
        service_faults.hang_up,
    ),
    Promise(
        "garbage",
        "bytes that are no request are refused without a 5xx, and the next request is served",
        400,
        service_faults.send_garbage,
    ),
    Promise(
        "hostile",
        "/livez answers within 100 ms (p99) while hostile bodies are served, none with a 5xx",
        300,
        send_hostile_bodies,
    ),
    Promise(
        "patterns",
        "every regular expression takes time in proportion to the texts that it finds hardest",
        1000,
        slow_patterns,
    ),
    Promise(
        "parsers",
        "every parser of what a request holds takes time in proportion to its length",
        1000,
        linear_parsers,
    ),
    Promise(
        "stages",
        "every stage behind the parsers takes time in proportion to its text, up to a megabyte",
        40,
        linear_stages,
    ),
    Promise(
        "mended",
        "a pattern that was slow is not, and finds in each text what it found",
        1500,
        mended_patterns,
    ),
    Promise(
        "overload",
        "what does not fit in is refused with 429 and Retry-After; all else is answered right",
        320,
        service_faults.overload,
    ),
    Promise(
        "come-back",
        "of those that come back when Retry-After said, nine in ten are served, at any speed",
        60,
        come_back,
    ),
    Promise(
        "drain",
        "on SIGTERM the service answers every admitted request whole, then refuses connections",
        30,
        service_faults.drain,
    ),
    Promise(
        "small",
        "100,000 small requests are answered right, and memory does not grow with them",
        100_000,
        run_small_requests,
    ),
)


def run_promise(promise: Promise, share: float) -> tuple[FaultOutcome, float]:
    """Tests a promise in a folder of its own; the outcome, and its seconds."""
    faults = max(1, round(promise.faults * share))
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        try:
            outcome = promise.run(Path(folder), faults, random.Random(promise.name))
        except AssertionError as error:
            outcome = FaultOutcome(faults, 0, 1, f"broken: {error}"[:200])
    return outcome, time.monotonic() - began


def outcome_table(found: list[tuple[Promise, FaultOutcome, float]]) -> Table:
    """The promises and their outcomes as a table."""
    table = Table("fault", "promise", "injected", "survived", "lost", "seen", "s", "")
    for promise, outcome, seconds in found:
        counts = (f"{outcome.injected:,}", f"{outcome.survived:,}", f"{outcome.lost:,}")
        verdict = "[green]kept[/]" if outcome.kept else "[bold red]BROKEN[/]"
        table.add_row(
            promise.name, promise.claim, *counts, outcome.observed, f"{seconds:.0f}", verdict
        )
    return table


def main() -> int:
    """The command line."""
    words = argparse.ArgumentParser(
        "python -m tests.chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [promise.name for promise in PROMISES]
    words.add_argument("--only", metavar="NAMES", default=",".join(names), help=", ".join(names))
    words.add_argument("--share", type=float, default=1.0, help="of the faults that are tried")
    given = words.parse_args()
    if unknown := set(given.only.split(",")) - set(names):
        words.error(f"there is no fault {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    console, found = Console(stderr=True), []
    for promise in PROMISES:
        if promise.name in given.only.split(","):
            with console.status(f"{promise.name}: {promise.claim}"):
                found.append((promise, *run_promise(promise, given.share)))
    out = Console()
    Console(width=None if out.is_terminal else 180).print(outcome_table(found))
    return 0 if all(one.kept for _, one, _ in found) else 1


if __name__ == "__main__":
    sys.exit(main())
