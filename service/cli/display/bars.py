"""Progress bars on standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from tamis.probes.hub import zoo

if TYPE_CHECKING:
    from tamis.probes.prompt import Prompt, Template
    from tamis.probes.signal import Signal, Want


@contextmanager
def counting_bar(what: str, total: int, quiet: bool = False) -> Iterator[Callable[..., None]]:
    """A bar on stderr for so many of something; the callback says how many more are done, or 1."""
    with task_bar(what, total, quiet) as (bar, task):
        yield lambda done=1: bar.advance(task, done)


@contextmanager
def task_bar(
    what: str, total: int | None = None, quiet: bool = False
) -> Iterator[tuple[Progress, TaskID]]:
    """A bar on stderr for one task."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, TimeRemainingColumn(), console=Console(stderr=True), disable=quiet, transient=True
    ) as bar:
        yield bar, bar.add_task(what, total=total)


STAGE_LABELS = {"fetch": "fetching", "check": "checking", "unpack": "unpacking", "store": "storing"}


@contextmanager
def download_bar() -> Iterator[zoo.Progress]:
    """A bar on stderr for one download; it pulses in a stage of unknown length."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("waiting", total=None)

        def report(stage: str, share: float) -> None:
            progress.update(
                task,
                description=STAGE_LABELS.get(stage, stage),
                completed=share,
                total=1.0 if share else None,
            )

        yield report


ProgressCallback = Callable[[int, int], None]
"""Called with the number of prompts read, and the number of prompts known so far."""


class ProgressReader:
    """Reads as the reader that it wraps, and counts prompts; other attributes are the reader's."""

    def __init__(self, reader: Any, on_progress: ProgressCallback) -> None:
        self.reader, self.on_progress = reader, on_progress
        self.done = self.total = 0

    def __getattr__(self, name: str) -> Any:
        """Card, layout, context and other attributes of the wrapped reader."""
        return getattr(self.reader, name)

    def with_template(self, template: Template) -> ProgressReader:
        """The same model with another template, and the same callback."""
        return ProgressReader(self.reader.with_template(template), self.on_progress)

    def read(self, prompts: Sequence[Prompt], want: Want) -> Iterator[Signal]:
        """The signal of each prompt, in order."""
        yield from self._count(self.reader.read(prompts, want), len(prompts))

    def read_cached(self, prompts: Sequence[Prompt], passages: Any, want: Want) -> Iterator[Signal]:
        """The signal of each prompt over kept passages, in order."""
        yield from self._count(self.reader.read_cached(prompts, passages, want), len(prompts))

    def _count(self, signals: Iterator[Signal], prompts: int) -> Iterator[Signal]:
        self.total += prompts
        self.on_progress(self.done, self.total)
        for signal in signals:
            self.done += 1
            self.on_progress(self.done, self.total)
            yield signal
