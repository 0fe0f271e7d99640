"""Every fault test under one roof: `python -m tests.chaos`, or `make chaos`.

    python -m tests.chaos                    all, as often as is written down
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
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.chaos import flips, service_faults
from tests.chaos.batch import storm
from tests.chaos.index_kills import run as index_kills
from tests.chaos.promise import Promise, Told
from tests.chaos.small_requests import small
from tests.probes.kv_cache.test_disk import killed_while_writing


def batch(folder: Path, kills: int, draw: random.Random) -> Told:
    """A batch killed and taken up again."""
    found = storm(folder, kills, draw.randrange(1 << 30))
    whole = found.same and found.verified
    seen = f"{found.between_parts} between first and last part"
    return Told(found.killed, found.killed if whole else 0, int(not whole), seen)


def writers(folder: Path, kills: int, draw: random.Random) -> Told:
    """Writers of an index killed; raises AssertionError at the first that loses something."""
    found = index_kills(folder / "index", kills, draw.randrange(1 << 30))
    return Told(kills, kills, 0, f"{found['commits']} commits")


def cache_writers(folder: Path, kills: int, draw: random.Random) -> Told:
    """Writers of kept passages killed; raises AssertionError at a damaged entry."""
    torn = killed_while_writing(folder, kills, draw)
    return Told(kills, kills, 0, f"{torn} in the middle of a file")


PROMISES = (
    Promise(
        "batch-kill",
        "a batch that is killed and taken up again writes the bytes of an undisturbed one",
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
        "a dead model thread costs the requests in its hands one 503; those that wait are served",
        50,
        service_faults.workers,
    ),
    Promise(
        "hang-up",
        "clients that leave anywhere in a request cost the next nothing, and leave nothing behind",
        300,
        service_faults.hanging_up,
    ),
    Promise(
        "garbage",
        "bytes that are no request are refused without a 5xx, and the next request is served",
        400,
        service_faults.garbage,
    ),
    Promise(
        "overload",
        "what does not fit in is refused with 429 and Retry-After; all else is answered right",
        320,
        service_faults.overload,
    ),
    Promise(
        "drain",
        "told to leave, the service answers whole what it let in, and closes the door",
        30,
        service_faults.drains,
    ),
    Promise(
        "small",
        "100,000 small requests are answered right, and memory does not grow with them",
        100_000,
        small,
    ),
)


def tried(promise: Promise, share: float) -> tuple[Told, float]:
    """A promise put to the test in a folder of its own; what came of it, and its seconds."""
    faults = max(1, round(promise.faults * share))
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        try:
            told = promise.run(Path(folder), faults, random.Random(promise.name))
        except AssertionError as error:
            told = Told(faults, 0, 1, f"broken: {error}"[:200])
    return told, time.monotonic() - began


def table(found: list[tuple[Promise, Told, float]]) -> Table:
    """What was promised, and what came of it."""
    made = Table("fault", "promise", "injected", "survived", "lost", "seen", "s", "")
    for promise, told, seconds in found:
        counts = (f"{told.injected:,}", f"{told.survived:,}", f"{told.lost:,}")
        verdict = "[green]kept[/]" if told.kept else "[bold red]BROKEN[/]"
        made.add_row(promise.name, promise.says, *counts, told.seen, f"{seconds:.0f}", verdict)
    return made


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
    told, found = Console(stderr=True), []
    for promise in PROMISES:
        if promise.name in given.only.split(","):
            with told.status(f"{promise.name}: {promise.says}"):
                found.append((promise, *tried(promise, given.share)))
    out = Console()
    Console(width=None if out.is_terminal else 180).print(table(found))
    return 0 if all(one.kept for _, one, _ in found) else 1


if __name__ == "__main__":
    sys.exit(main())
