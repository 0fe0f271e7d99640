"""Progress bars of the commands of the lab."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class RateColumn(ProgressColumn):
    """A column with the records done per second, or per minute where that is below one."""

    def render(self, task: Task) -> Text:
        """The speed since the start, which holds off a terminal, too; a dash before the first."""
        speed = task.completed / task.elapsed if task.completed and task.elapsed else 0.0
        shown = f"{speed:.1f}/s" if speed >= 1 else f"{speed * 60:.1f}/min" if speed else "-/s"
        return Text(shown, "progress.data.speed")


@contextmanager
def record_bars() -> Iterator[Progress]:
    """Bars with rate and remaining time, on stderr."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield progress


@contextmanager
def file_bars() -> Iterator[Callable[..., None]]:
    """Bars on stderr with the remaining time, one per file, each with a note after it."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        tasks: dict[str, Any] = {}

        def report(name: str, done: int, total: int, note: str = "") -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=total, note=note)
            bar.update(tasks[name], completed=done, note=note)

        yield report
