"""What every benchmark shares: cases that are measured one by one, rows that are kept, a report.

    cases ─ measure ─► rows ─ figures ─► tables, `--json`, `--plot`
                        └ a file of JSON Lines, which an interrupted run continues

A benchmark is its cases, what it measures of one, and the columns of its tables.
"""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch
import typer
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from tamis.service.cli.display.output import dump_json, make_console, print_note
from tamis_lab.datasets.result_file import ResultFile, ResultRow
from tamis_lab.options.bars import record_bars
from tamis_lab.options.figures import Chart, draw_charts
from tamis_lab.options.output_files import check_images, check_targets

Case = TypeVar("Case")
Result = TypeVar("Result")


class Study:
    """One run of a benchmark; outside of `bars` it measures in silence.

    Attributes:
        file: the rows that are kept, once `keep_rows` has opened them.
        measured, kept: how many rows of the cases were measured now, and how many were there.
    """

    def __init__(
        self, as_json: bool = False, plot: Path | None = None, results: Path | None = None
    ) -> None:
        """Takes what the shared options say.

        Raises:
            BadInput: a file cannot be written. MissingExtra: matplotlib is not installed.
        """
        check_images(plot)
        check_targets(results)
        self.as_json, self.plot, self.results = as_json, plot, results
        self.file: ResultFile | None = None
        self._kept: dict[str, ResultRow] = {}
        self.measured = self.kept = 0
        self._progress: Progress | None = None
        self._tasks: dict[str, Any] = {}

    def keep_rows(self, settings: Mapping[str, Any], key: str = "key") -> None:
        """Opens the file of rows, if one was named, which continues a run of equal settings.

        Args:
            settings: whatever rows depend on beside the code: data, method, seed.
            key: the column that identifies a row.

        Raises:
            BadInput: the file was made with other settings, or is no file of rows.
        """
        if self.results:
            made = {**settings, "tamis": version("tamis")}
            self.file = ResultFile(self.results, made, key, "--results")
            self._kept = {str(row[key]): row for row in self.file.rows()}

    def rows(
        self,
        name: str,
        cases: Mapping[str, Case],
        measure: Callable[[Case], Mapping[str, Any]],
        total: int | None = None,
    ) -> list[ResultRow]:
        """A row of named columns for every case, by its key; those that are kept are not measured.

        Args:
            name: of the bar. total: what it counts to; by default the cases without a row.
        """
        key, found = self.file.key if self.file else "key", []
        due = [at for at in cases if at not in self._kept]
        for at, case in cases.items():
            row = self._kept.get(at)
            if row is None:
                row = {key: at, **measure(case)}
                if self.file:
                    self.file.append(row)
                    self._kept[at] = row
                self.advance(name, 1, total or len(due))
            found.append(row)
        self.measured, self.kept = self.measured + len(due), self.kept + len(cases) - len(due)
        return found

    def has_row(self, key: str) -> bool:
        """Whether the row of a case is kept, so that it is not measured."""
        return key in self._kept

    def summary(self) -> str:
        """How many rows were measured, were there before, and are errors."""
        failed = self.file.failed if self.file else 0
        errors = f", {failed} with errors" if failed else ""
        return f"{self.measured} rows measured, {self.kept} were there before{errors}"

    @contextmanager
    def bars(self) -> Iterator[None]:
        """Shows bars with rate and remaining time on stderr, until it ends."""
        with record_bars() as self._progress:
            try:
                yield
            finally:
                self._progress, self._tasks = None, {}

    def report(self, name: str, done: int, total: int, note: str = "") -> None:
        """Shows in a bar of its own how many of something are done."""
        self.advance(name, 0, total)
        if self._progress is not None:
            shown = f"{name} {note}".strip()
            self._progress.update(self._tasks[name], completed=done, description=shown)

    def advance(self, name: str, more: int, total: int) -> None:
        """Shows in a bar of its own that more of something are done."""
        if self._progress is not None:
            if name not in self._tasks:
                self._tasks[name] = self._progress.add_task(name, total=total)
            self._progress.advance(self._tasks[name], more)

    def publish(
        self,
        figures: Mapping[str, Any],
        shown: Callable[[], Iterable[Any]],
        charts: Callable[[], Sequence[Chart]] = list,
    ) -> None:
        """Prints tables, or all figures as JSON with what they depend on, and draws the charts.

        Args:
            shown: makes the tables and lines. charts: makes the charts; none where there are none.
        """
        if self.as_json:
            command = ["tamis", *sys.argv[1:]]
            typer.echo(dump_json({"command": command, **environment_facts(), **figures}))
        else:
            console = make_console()
            for each in shown():
                console.print(each)
        if self.plot and (drawn := charts()):
            draw_charts(drawn, self.plot)
            print_note(f"wrote {self.plot}")


def timed(call: Callable[[], Result]) -> tuple[Result, float, float]:
    """What a call returns, and its milliseconds: those of the clock, and of the processor."""
    clock, cpu = time.perf_counter(), time.process_time()
    found = call()
    return found, (time.perf_counter() - clock) * 1e3, (time.process_time() - cpu) * 1e3


def environment_facts() -> dict[str, Any]:
    """Versions, machine and threads: what figures may depend on beside method and data."""
    packages = ("tamis", "torch", "transformers", "tokenizers", "sentencex", "numpy")
    return {
        "versions": {"python": platform.python_version()} | {p: version(p) for p in packages},
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
    }


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> Table:
    """A table: the first column names its row, the others are figures."""
    made = Table(title=title or None, title_justify="left", title_style="bold")
    for column in columns:
        made.add_column(column, justify="right" if made.columns else "left", no_wrap=True)
    for row in rows:
        made.add_row(*row)
    return made


def heading(budget: str | float) -> str:
    """What a column of a budget is called."""
    return f"{float(budget):.0%}" if float(budget) <= 1 else f"{budget} tokens"


def ends(of: Mapping[str, float], form: str = ".1f", scale: float = 100) -> str:
    """The ends of an interval in brackets, in per cent unless `scale` says otherwise."""
    return f"[{scale * of['low']:{form}}, {scale * of['high']:{form}}]"


def estimate(
    of: Mapping[str, float], name: str = "difference", form: str = "+.1f", scale: float = 100
) -> Text:
    """A figure and its interval: green above 0, red below it, dim where it contains 0."""
    style = "green" if of["low"] > 0 else "red" if of["high"] < 0 else "dim"
    shown = ends(of, form.removeprefix("+"), scale)
    return Text(f"{scale * of[name]:{form}} {shown}", style)
