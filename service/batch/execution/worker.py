"""The worker that turns parts into files and receipts: in this process, in others, and on Ray."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tamis.probes.errors import BadInput
from tamis.service.batch.job import BatchJob
from tamis.service.batch.outcome import RowOutcome
from tamis.service.batch.output import OutputFolder, PartReceipt, sha256_hex
from tamis.service.batch.plan import BatchPlan
from tamis.service.batch.row_reader import PartReader
from tamis.service.batch.row_writer import encode_jsonl, encode_parquet, read_outcomes
from tamis.service.batch.rows import InputRow, RowRequest, request_of
from tamis.service.batch.survey import BatchPart

if TYPE_CHECKING:
    from tamis.service.batch.execution.row_compressor import RowCompressor

OutcomeCallback = Callable[[RowOutcome], None]


class RowFailed(BadInput):
    """A row failed and `stop_on_error` is set; the message names file and row."""


class PartWorker:
    """Runs parts of one plan; the method is loaded for the first row that needs it."""

    def __init__(
        self,
        job: BatchJob,
        plan: BatchPlan,
        out: str,
        *,
        stop_on_error: bool = False,
        redo: bool = False,
    ) -> None:
        """A worker of a plan.

        Args:
            out: the output folder.
            stop_on_error: whether the first row that fails ends the run.
            redo: repeat the failed rows of completed parts, and only those.
        """
        self.job, self.plan, self.output = job, plan, OutputFolder(out)
        self.stop_on_error, self.redo = stop_on_error, redo
        self.reader = PartReader(plan.sources, job)
        self._compressor: RowCompressor | None = None

    @property
    def compressor(self) -> RowCompressor:
        """The method of the job, loaded."""
        if self._compressor is None:
            from tamis.service.batch.execution.row_compressor import RowCompressor

            self._compressor = RowCompressor(self.job)
        return self._compressor

    def finished_receipt(self, part: BatchPart) -> PartReceipt | None:
        """The receipt of a part that is done already; None for another part."""
        exists = self.output.fs.exists(f"{self.output.path}/{self.plan.part_file(part)}")
        receipt = self.output.read_receipt(part) if exists else None
        return receipt if receipt is not None and receipt.rows == part.rows else None

    def run(self, part: BatchPart, on_outcome: OutcomeCallback | None = None) -> PartReceipt:
        """Compresses the rows of a part, writes them and their receipt.

        Args:
            on_outcome: called with the outcome of each row that is computed.

        Raises:
            RowFailed: a row failed and `stop_on_error` is set.
            BadInput: the part cannot be read or written.
        """
        clock = time.perf_counter()
        rows = self.reader.read_rows(part)
        outcomes = self._earlier_outcomes(part) if self.redo else [None] * len(rows)
        done = self._complete(part, rows, outcomes, on_outcome)
        data = self._encode(part, rows, done)
        failed = tuple(
            (row.number, outcome.error or "")
            for row, outcome in zip(rows, done, strict=True)
            if outcome.status == "error"
        )
        receipt = PartReceipt(
            part.index,
            len(rows),
            sum(outcome.tokens_in or 0 for outcome in done),
            sum(outcome.tokens_out or 0 for outcome in done),
            failed,
            sha256_hex(data),
            len(data),
            round(time.perf_counter() - clock, 4),
        )
        self.output.write_part(self.plan.part_file(part), data, receipt)
        return receipt

    def _earlier_outcomes(self, part: BatchPart) -> list[RowOutcome | None]:
        """The outcomes of an earlier run; None for each row that failed."""
        name = self.plan.part_file(part)
        outcomes = read_outcomes(self.output.read(name), name, self.job)
        return [None if outcome.status == "error" else outcome for outcome in outcomes]

    def _complete(
        self,
        part: BatchPart,
        rows: Sequence[InputRow],
        known: Sequence[RowOutcome | None],
        on_outcome: OutcomeCallback | None,
    ) -> list[RowOutcome]:
        """The outcomes of all rows: the known ones, and those that are computed now."""
        found: list[RowOutcome | None] = list(known)
        for outcome in known:
            if outcome is not None and on_outcome:
                on_outcome(outcome)
        requests: list[tuple[int, RowRequest]] = []
        for place, row in enumerate(rows):
            if found[place] is None:
                try:
                    requests.append((place, request_of(row, self.job)))
                except BadInput as error:
                    found[place] = self._locate_error(
                        part, row, RowOutcome(error=str(error)), on_outcome
                    )
        places = [place for place, _ in requests]
        results = (
            self.compressor.compress_rows([request for _, request in requests], on_outcome)
            if requests
            else []
        )
        for place, outcome in zip(places, results, strict=True):
            found[place] = self._locate_error(part, rows[place], outcome, None)
        return [outcome for outcome in found if outcome is not None]

    def _locate_error(
        self,
        part: BatchPart,
        row: InputRow,
        outcome: RowOutcome,
        on_outcome: OutcomeCallback | None,
    ) -> RowOutcome:
        """The outcome; if it is an error, with file and row in its message.

        Raises:
            RowFailed: it is an error and `stop_on_error` is set.
        """
        if outcome.status == "error":
            place = self.plan.sources[part.source].location(row.number)
            outcome = RowOutcome(error=f"{place}: {outcome.error}")
            if self.stop_on_error:
                raise RowFailed(f"{outcome.error}; nothing is lost: run again with --on-error keep")
        if on_outcome:
            on_outcome(outcome)
        return outcome

    def _encode(
        self, part: BatchPart, rows: Sequence[InputRow], done: Sequence[RowOutcome]
    ) -> bytes:
        from tamis.service.files.codecs import pack

        if self.job.format != "parquet":
            return pack(encode_jsonl(rows, done, self.job), self.plan.part_file(part))
        own: Any = None
        if self.plan.sources[part.source].kind == "parquet":
            own = self.reader.arrow_table(part)
        return encode_parquet(rows, done, self.job, own, self.plan.columns)
