"""The progress of a batch while it runs, its summary, and its forecast."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from tamis.service.batch.run import RunSummary
from tamis.service.cli.display.output import print_note

if TYPE_CHECKING:
    from tamis.service.batch.run import BatchEstimate

_PLAIN_SECONDS = 10.0
_LISTED = 10
_RATE_WIDTH = 52


@contextlib.contextmanager
def survey_status(quiet: bool) -> Iterator[None]:
    """A status line while the input is surveyed, which takes minutes if it is large."""
    console = Console(stderr=True, highlight=False)
    if quiet or not console.is_terminal:
        yield
        return
    with console.status("reading the input once, to see which rows make which part"):
        yield


class BatchProgress:
    """A bar on a terminal, elsewhere a line every ten seconds; nothing if `quiet`."""

    def __init__(self, rows: int, quiet: bool) -> None:
        self.rows, self.quiet = rows, quiet
        self.first = self.first_tokens = self.done = self.failed = 0
        self.tokens_in = self.tokens_out = 0
        self.started = self.last_line = time.monotonic()
        self.console = Console(stderr=True, highlight=False)
        self.bar: Progress | None = None
        self.task = TaskID(0)

    def __enter__(self) -> BatchProgress:
        if self.console.is_terminal and not self.quiet:
            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                # of one width and drawn twice a second, so that nothing jumps
                TextColumn(
                    "{task.fields[rate]}", table_column=Column(min_width=_RATE_WIDTH, no_wrap=True)
                ),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=self.console,
                refresh_per_second=2,
            )
            self.task = self.bar.add_task("rows", total=self.rows, rate="")
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def count(self, rows: int, failed: int, tokens_in: int, tokens_out: int) -> None:
        """Counts rows that were computed, or those of a part that was written."""
        if not self.done:
            # the rate leaves out loading the model, and the rows that were done with it
            self.started, self.first, self.first_tokens = time.monotonic(), rows, tokens_in
        self.done += rows
        self.failed += failed
        self.tokens_in += tokens_in
        self.tokens_out += tokens_out
        if self.bar is not None:
            self.bar.update(self.task, completed=self.done, rate=self._rate_text())
        elif not self.quiet and time.monotonic() - self.last_line >= _PLAIN_SECONDS:
            self.last_line = time.monotonic()
            print_note(
                f"{self.done:,} of {self.rows:,} rows, {self._rate_text()}{self._remaining_text()}"
            )

    def _rate_text(self) -> str:
        saved = 1 - self.tokens_out / self.tokens_in if self.tokens_in else 0.0
        failed = f", {self.failed:,} failed" if self.failed else ""
        if self.done == self.first:
            return f"loaded, {saved:.0%} of the tokens saved{failed}"
        rate, seconds = self._rate(), max(time.monotonic() - self.started, 1e-6)
        rows = f"{rate:,.1f} rows/s" if rate >= 1 else f"{rate * 60:,.1f} rows/min"
        tokens = (self.tokens_in - self.first_tokens) / seconds
        return f"{rows}, {tokens:,.0f} tokens/s, {saved:.0%} of the tokens saved{failed}"

    def _remaining_text(self) -> str:
        rate = self._rate()
        return f", {duration_text((self.rows - self.done) / rate)} left" if rate else ""

    def _rate(self) -> float:
        """Rows per second since the first ones were done."""
        return (self.done - self.first) / max(time.monotonic() - self.started, 1e-6)


def duration_text(seconds: float) -> str:
    """A duration in a suitable unit, from seconds to days."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:,.1f} h" if seconds < 172_800 else f"{seconds / 86400:,.1f} days"


def print_summary(summary: RunSummary, out: str, seconds: float, rows_now: int) -> None:
    """Prints totals and the first failed rows to standard error."""
    saved = summary.tokens_in - summary.tokens_out
    share = saved / summary.tokens_in if summary.tokens_in else 0.0
    print_note(
        f"{summary.rows:,} rows in {summary.parts:,} parts in {out}: {summary.tokens_in:,} → "
        f"{summary.tokens_out:,} tokens, {saved:,} saved ({share:.0%}); "
        f"{rows_now:,} rows now, in {duration_text(seconds)}"
    )
    for why in summary.failures[:_LISTED]:
        print_note(f"failed: {why}")
    if summary.failed > _LISTED:
        print_note(f"and {summary.failed - _LISTED:,} more; they have status 'error'")
    if summary.unusable:
        print_note(
            f"{summary.unusable:,} rows cannot be used as they are, and --retry-errors alone does "
            "not help: mend them, and start again in another folder or with --overwrite"
        )
    if others := summary.failed - summary.unusable:
        print_note(f"{others:,} rows failed; try them again with --retry-errors")


def forecast_text(estimate: BatchEstimate, workers: int) -> str:
    """An estimate, as lines of text."""
    lines = [
        f"rows    {estimate.rows:,} in {estimate.parts:,} parts",
        f"tokens  about {estimate.tokens:,} (from {estimate.sampled} rows)",
        f"time    about {duration_text(estimate.seconds / workers)} with {workers} worker"
        f"{'s' if workers > 1 else ''} (from {estimate.timed} rows compressed here)",
    ]
    if estimate.unusable:
        lines.append(
            f"failing {estimate.unusable} of {estimate.sampled} sampled rows cannot be used"
        )
    return "\n".join(lines)
