"""A worker: parts in, files and receipts out. The same in this process, in others and in Ray."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tamis.probes.errors import BadInput
from tamis.service.batch.job import Job
from tamis.service.batch.outcome import Outcome
from tamis.service.batch.output import Output, Plan, Receipt, digest
from tamis.service.batch.plan import Part
from tamis.service.batch.row_reader import Reader
from tamis.service.batch.row_writer import jsonl, parquet, read_back
from tamis.service.batch.rows import Request, Row, request_of

if TYPE_CHECKING:
    from tamis.service.batch.execution.row_compressor import Rows

Tick = Callable[[Outcome], None]


class RowFailed(BadInput):
    """A row failed where none may: the message names file and row."""


class Worker:
    """Does parts of one plan; the method is loaded at the first row that needs it."""

    def __init__(
        self, job: Job, plan: Plan, out: str, *, stop_on_error: bool = False, redo: bool = False
    ) -> None:
        """A worker of a plan.

        Args:
            out: the output folder.
            stop_on_error: whether the first row that fails ends everything.
            redo: do the failed rows of parts that are done again, and only those.
        """
        self.job, self.plan, self.output = job, plan, Output(out)
        self.stop_on_error, self.redo = stop_on_error, redo
        self.reader = Reader(plan.sources, job)
        self._rows: Rows | None = None

    @property
    def method(self) -> Rows:
        """The method, loaded."""
        if self._rows is None:
            from tamis.service.batch.execution.row_compressor import Rows

            self._rows = Rows(self.job)
        return self._rows

    def finished(self, part: Part) -> Receipt | None:
        """The receipt of a part that is done already."""
        there = self.output.fs.exists(f"{self.output.path}/{self.plan.file(part)}")
        receipt = self.output.receipt(part) if there else None
        return receipt if receipt is not None and receipt.rows == part.rows else None

    def run(self, part: Part, tick: Tick | None = None) -> Receipt:
        """Compresses the rows of a part, writes them and their receipt.

        Args:
            tick: called with the outcome of each row that is computed.

        Raises:
            RowFailed: a row failed and none may. BadInput: the part cannot be read or written.
        """
        clock = time.perf_counter()
        rows = self.reader.rows(part)
        outcomes = self._kept(part) if self.redo else [None] * len(rows)
        done = self._completed(part, rows, outcomes, tick)
        data = self._encoded(part, rows, done)
        failed = tuple(
            (row.number, outcome.error or "")
            for row, outcome in zip(rows, done, strict=True)
            if outcome.status == "error"
        )
        receipt = Receipt(
            part.index,
            len(rows),
            sum(outcome.tokens_in or 0 for outcome in done),
            sum(outcome.tokens_out or 0 for outcome in done),
            failed,
            digest(data),
            len(data),
            round(time.perf_counter() - clock, 4),
        )
        self.output.put_part(self.plan.file(part), data, receipt)
        return receipt

    def _kept(self, part: Part) -> list[Outcome | None]:
        """The outcomes of an earlier run; None for the rows that failed."""
        name = self.plan.file(part)
        outcomes = read_back(self.output.get(name), name, self.job)
        return [None if outcome.status == "error" else outcome for outcome in outcomes]

    def _completed(
        self, part: Part, rows: Sequence[Row], known: Sequence[Outcome | None], tick: Tick | None
    ) -> list[Outcome]:
        found: list[Outcome | None] = list(known)
        for outcome in known:
            if outcome is not None and tick:
                tick(outcome)
        asked: list[tuple[int, Request]] = []
        for place, row in enumerate(rows):
            if found[place] is None:
                try:
                    asked.append((place, request_of(row, self.job)))
                except BadInput as error:
                    found[place] = self._heard(part, row, Outcome(error=str(error)), tick)
        places = [place for place, _ in asked]
        results = self.method.outcomes([request for _, request in asked], tick) if asked else []
        for place, outcome in zip(places, results, strict=True):
            found[place] = self._heard(part, rows[place], outcome, None)
        return [outcome for outcome in found if outcome is not None]

    def _heard(self, part: Part, row: Row, outcome: Outcome, tick: Tick | None) -> Outcome:
        if outcome.status == "error":
            place = self.plan.sources[part.source].place(row.number)
            outcome = Outcome(error=f"{place}: {outcome.error}")
            if self.stop_on_error:
                raise RowFailed(f"{outcome.error}; nothing is lost: run again with --on-error keep")
        if tick:
            tick(outcome)
        return outcome

    def _encoded(self, part: Part, rows: Sequence[Row], done: Sequence[Outcome]) -> bytes:
        from tamis.service.files.files import packed

        if self.job.format != "parquet":
            return packed(jsonl(rows, done, self.job), self.plan.file(part))
        own: Any = None
        if self.plan.sources[part.source].kind == "parquet":
            own = self.reader.table(part)
        return parquet(rows, done, self.job, own, self.plan.columns)
