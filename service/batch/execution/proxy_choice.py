"""The proxy of a batch: one for all rows, chosen by the language of the first rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from tamis.probes.errors import BadInput
from tamis.probes.segmentation.language import AUTO
from tamis.service.api.languages import ProxyChoice, choose_proxy
from tamis.service.batch.job import BatchJob
from tamis.service.batch.row_reader import PartReader
from tamis.service.batch.rows import RowRequest, request_of
from tamis.service.files.input_files import find_input_files

SAMPLED_ROWS = 16
"""Rows of each of the first `SAMPLED_FILES` input files whose language is determined."""
SAMPLED_FILES = 4


def choose_batch_proxy(
    job: BatchJob, inputs: Sequence[str], out: str | None = None, quality: str = "standard"
) -> ProxyChoice:
    """The proxy for a batch whose own is `auto`.

    A batch has one proxy, so that it can be resumed and compared; if its language is not named, it
    is that of some of its first rows. Sentences are still found in the language of each row.

    Raises:
        BadInput: there is no input, or a quality that cannot choose.
    """
    requests = list(_first_requests(job, inputs, out))
    question = "\n".join(request.asked for request in requests)
    passages = [passage for request in requests for passage in request.passages]
    root = Path(job.root) if job.root else None
    given = job.proxy, job.method, job.language
    return choose_proxy(*given, question, passages, root, job.probe or AUTO, quality)


def _first_requests(job: BatchJob, inputs: Sequence[str], out: str | None) -> Iterator[RowRequest]:
    sources = find_input_files(inputs, out)
    reader = PartReader(sources, job)
    try:
        for number in range(min(SAMPLED_FILES, len(sources))):
            for row in reader.first_rows(number, SAMPLED_ROWS):
                try:
                    yield request_of(row, job)
                except BadInput:
                    continue  # it becomes an error row, later
    finally:
        reader.close()
