"""What a batch shows while it runs, and at its end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import typer
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

from tamis.service.batch.execution.run import Summary
from tamis.service.batch.outcome import Outcome
from tamis.service.batch.output import Receipt

_PLAIN_SECONDS = 10.0
_LISTED = 10


@contextlib.contextmanager
def surveying(quiet: bool) -> Iterator[None]:
    """A sign of life while the input is read for its parts, which takes minutes if it is large."""
    console = Console(stderr=True, highlight=False)
    if quiet or not console.is_terminal:
        yield
        return
    with console.status("reading the input once, to see which rows make which part"):
        yield


class Show:
    """A bar on a terminal; elsewhere a line every ten seconds; nothing where it shall be quiet."""

    def __init__(self, rows: int, quiet: bool) -> None:
        self.rows, self.quiet = rows, quiet
        self.first = self.done = self.failed = self.tokens_in = self.tokens_out = 0
        self.began = self.said = time.monotonic()
        self.console = Console(stderr=True, highlight=False)
        self.bar: Progress | None = None
        self.task = TaskID(0)

    def __enter__(self) -> Show:
        if self.console.is_terminal and not self.quiet:
            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[said]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=self.console,
            )
            self.task = self.bar.add_task("rows", total=self.rows, said="")
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def tick(self, outcome: Outcome) -> None:
        """One row is computed."""
        failed = outcome.status == "error"
        self._count(1, failed, outcome.tokens_in or 0, outcome.tokens_out or 0)

    def part(self, receipt: Receipt) -> None:
        """One part is written."""
        self._count(receipt.rows, len(receipt.failed), receipt.tokens_in, receipt.tokens_out)

    def _count(self, rows: int, failed: int, tokens_in: int, tokens_out: int) -> None:
        if not self.done:
            # loading the model is no part of the rate, nor are the rows that came with it
            self.began, self.first = time.monotonic(), rows
        self.done += rows
        self.failed += failed
        self.tokens_in += tokens_in
        self.tokens_out += tokens_out
        if self.bar is not None:
            self.bar.update(self.task, completed=self.done, said=self._said())
        elif not self.quiet and time.monotonic() - self.said >= _PLAIN_SECONDS:
            self.said = time.monotonic()
            typer.echo(
                f"{self.done:,} of {self.rows:,} rows, {self._said()}{self._left()}", err=True
            )

    def _said(self) -> str:
        saved = 1 - self.tokens_out / self.tokens_in if self.tokens_in else 0.0
        failed = f", {self.failed:,} failed" if self.failed else ""
        return f"{self._rate():,.1f} rows/s, {saved:.0%} of the tokens saved{failed}"

    def _left(self) -> str:
        rate = self._rate()
        return f", {duration((self.rows - self.done) / rate)} left" if rate else ""

    def _rate(self) -> float:
        """Rows a second since the first came."""
        return (self.done - self.first) / max(time.monotonic() - self.began, 1e-6)


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:,.1f} h" if seconds < 172_800 else f"{seconds / 86400:,.1f} days"


def say_summary(summary: Summary, out: str, seconds: float, rows_now: int) -> None:
    """What came out, and which rows failed."""
    saved = summary.tokens_in - summary.tokens_out
    share = saved / summary.tokens_in if summary.tokens_in else 0.0
    typer.echo(
        f"{summary.rows:,} rows in {summary.parts:,} parts in {out}: {summary.tokens_in:,} → "
        f"{summary.tokens_out:,} tokens, {saved:,} saved ({share:.0%}); "
        f"{rows_now:,} rows now, in {duration(seconds)}",
        err=True,
    )
    for why in summary.failures[:_LISTED]:
        typer.echo(f"failed: {why}", err=True)
    if summary.failed > _LISTED:
        typer.echo(f"and {summary.failed - _LISTED:,} more; they have status 'error'", err=True)
    if summary.failed:
        typer.echo(f"{summary.failed:,} rows failed; try them again with --retry-errors", err=True)


def forecast(told: Any, workers: int) -> str:
    """An estimate, in lines."""
    lines = [
        f"rows    {told.rows:,} in {told.parts:,} parts",
        f"tokens  about {told.tokens:,} (from {told.sampled} rows)",
        f"time    about {duration(told.seconds / workers)} with {workers} worker"
        f"{'s' if workers > 1 else ''} (from {told.timed} rows compressed here)",
    ]
    if told.unusable:
        lines.append(f"failing {told.unusable} of {told.sampled} sampled rows cannot be used")
    return "\n".join(lines)
