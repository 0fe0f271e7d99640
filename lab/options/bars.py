"""Progress bars of the commands of the lab."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.progress import Progress


def add_bar(progress: Progress, name: str, total: int) -> Callable[[int], None]:
    """Adds a bar; returns the callback that sets how many are done."""
    task = progress.add_task(name, total=total)
    return lambda done: progress.update(task, completed=done)


def stage_bars(progress: Progress) -> Callable[[str, int, int], None]:
    """A callback that shows a bar for each activity, from its first step on.

    It takes the name of the activity, how much more of it is done, and how much there is in all.
    """
    tasks: dict[str, Any] = {}

    def step(what: str, done: int, total: int) -> None:
        if what not in tasks:
            tasks[what] = progress.add_task(what, total=total)
        progress.advance(tasks[what], done)

    return step
