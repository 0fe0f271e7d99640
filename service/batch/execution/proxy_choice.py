"""The proxy of a batch: one for all rows, by the language of the first ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from tamis.probes.errors import BadInput
from tamis.probes.segmentation.language import AUTO
from tamis.service.api.languages import ProxyChoice, choose_proxy
from tamis.service.batch.job import Job
from tamis.service.batch.row_reader import Reader
from tamis.service.batch.rows import Request, request_of
from tamis.service.files.sources import find_sources

ROWS = 16
"""Of each of the first sources."""
SOURCES = 4


def proxy_of(job: Job, inputs: Sequence[str], out: str | None = None) -> ProxyChoice:
    """The proxy for a batch whose own is `auto`.

    A batch has one proxy, so that it can be resumed and compared; where its language is not named,
    some of its first rows tell it. Each row's sentences are found in its own language all the same.

    Raises:
        BadInput: there is no input.
    """
    requests = list(_first(job, inputs, out))
    question = "\n".join(request.question for request in requests)
    passages = [passage for request in requests for passage in request.passages]
    root = Path(job.root) if job.root else None
    probe = job.probe or AUTO
    return choose_proxy(job.proxy, job.method, job.language, question, passages, root, probe)


def _first(job: Job, inputs: Sequence[str], out: str | None) -> Iterator[Request]:
    sources = find_sources(inputs, out)
    reader = Reader(sources, job)
    try:
        for number in range(min(SOURCES, len(sources))):
            for row in reader.first(number, ROWS):
                try:
                    yield request_of(row, job)
                except BadInput:
                    continue  # it becomes an error row, later
    finally:
        reader.close()
