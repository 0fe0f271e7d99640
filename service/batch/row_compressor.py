"""Compresses rows: rows of similar length together, and short ones in one forward pass.

Alone, a short row would leave most of each batch empty. Every row of a group runs the ordinary
single call in a thread of its own. When it has prompts to read it waits; once every row waits or is
done, all prompts are read together, in the order of the rows, and every row gets its own signals.
So which prompts share a pass depends on the rows alone, never on timing, and a method is not aware
of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tamis.compressors.pipeline.compression import Compressor
from tamis.compressors.reading.windows import Reader, with_cache
from tamis.compressors.registry import build_method, layers_needed, load_proxy, method_info
from tamis.probes.errors import BadInput, TamisError
from tamis.probes.kv_cache.cache import PassageCache
from tamis.probes.prompt import Prompt, Template
from tamis.probes.signal import Signal, Want
from tamis.service.api.compress import counter_of
from tamis.service.api.lazy_method import ordering_methods
from tamis.service.batch.job import BatchJob
from tamis.service.batch.outcomes import OutcomeCallback, RowOutcome
from tamis.service.batch.rows import RowRequest

MAX_ROWS = 32
"""Rows in one group, each in a thread of its own."""


class SharedReadError(Exception):
    """The shared forward pass failed; each row has to be read alone to find the one at fault."""


@dataclass(slots=True)
class _ReadCall:
    """The prompts that one row waits for, and their signals or the error."""

    reader: PooledReader
    prompts: Sequence[Prompt]
    want: Want
    signals: list[Signal] | None = None
    error: BaseException | None = None


@dataclass(slots=True)
class _ReadGroup:
    """Rows that read together: `active` rows are not done yet; `closed` ends their waiting."""

    active: int
    closed: bool = False
    waiting: dict[int, _ReadCall] = field(default_factory=dict)
    condition: threading.Condition = field(default_factory=threading.Condition)


class PooledReader:
    """A reader that reads the prompts of a group of rows together.

    Outside a group it reads as the reader that it wraps.
    """

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.card, self.layout = reader.card, reader.layout
        self._thread = threading.local()
        self._threads = ThreadPoolExecutor(MAX_ROWS, "tamis-row")

    @property
    def can_pause(self) -> bool:
        """Whether the wrapped reader can; rows that pause at the same layers are read together."""
        return getattr(self.reader, "can_pause", False)

    @property
    def device(self) -> Any:
        """The device of the wrapped reader; `auto` where it has none."""
        return getattr(self.reader, "device", "auto")

    def with_template(self, template: Template) -> PooledReader:
        """The same model and the same group, with another template."""
        twin = copy(self)
        twin.reader = self.reader.with_template(template)
        twin.layout = twin.reader.layout
        return twin

    def read(self, prompts: Sequence[Prompt], want: Want) -> Iterator[Signal]:
        """As the wrapped reader; in a group, together with the other rows' prompts.

        Raises:
            SharedReadError: the shared pass failed, maybe because of another row's prompt.
        """
        group: _ReadGroup | None = getattr(self._thread, "group", None)
        if group is None or not prompts:
            yield from self.reader.read(prompts, want)
            return
        call = _ReadCall(self, prompts, want)
        with group.condition:
            group.waiting[self._thread.row] = call
            group.condition.notify_all()
            group.condition.wait_for(lambda: group.closed or call.signals is not None or call.error)
        if call.signals is None:
            raise SharedReadError(str(call.error or "interrupted")) from call.error
        yield from call.signals

    def run_together(self, calls: Sequence[Callable[[], Any]]) -> list[Any]:
        """The results of up to `MAX_ROWS` calls that read through this reader, or their errors.

        The model runs in the thread of the caller, so that torch starts its threads only once.
        """
        group = _ReadGroup(len(calls))
        futures = [
            self._threads.submit(self._run_row, group, row, call) for row, call in enumerate(calls)
        ]
        with group.condition:
            try:
                while group.active:
                    group.condition.wait_for(lambda: len(group.waiting) == group.active)
                    waiting, group.waiting = group.waiting, {}
                    _read_calls([waiting[row] for row in sorted(waiting)])
                    group.condition.notify_all()
            finally:
                group.closed = True  # after an interrupt no row may wait for ever
                group.condition.notify_all()
        return [future.result() for future in futures]

    def _run_row(self, group: _ReadGroup, row: int, call: Callable[[], Any]) -> Any:
        self._thread.group, self._thread.row = group, row
        try:
            return call()
        except Exception as error:
            return error
        finally:
            self._thread.group = None
            with group.condition:
                group.active -= 1
                group.condition.notify_all()


def _read_calls(calls: Sequence[_ReadCall]) -> None:
    """Reads all prompts, in one pass for the calls with the same template and the same `Want`."""
    by_kind: dict[Any, list[_ReadCall]] = {}
    for call in calls:
        by_kind.setdefault((call.reader.layout.template, call.want), []).append(call)
    for same in by_kind.values():
        prompts = [prompt for call in same for prompt in call.prompts]
        try:
            signals = iter(list(same[0].reader.reader.read(prompts, same[0].want)))
        except Exception as error:
            for call in same:
                call.error = error
            continue
        for call in same:
            call.signals = [next(signals) for _ in call.prompts]


_CHARS_A_TOKEN = 4
_MAX_CHARS_A_TOKEN = 64  # no language has so many: a longer row is refused without counting
_MAX_TOKENS_A_CHAR = 4  # bytes of one character in UTF-8
_BATCHES_A_GROUP = 4
"""Batches of the proxy that a group fills, so that the last, half-empty one matters little."""

_ROWS_A_BATCH = 4
"""A row that fills more than a quarter of a batch gains nothing by sharing: it is read alone, as in
the single call (sharing on one core in bf16: 2.2 times as fast at 30 tokens a row, 1.4 at 80, 1.0
at 300)."""


class RowCompressor:
    """The method of a job, loaded once; short rows share its forward passes."""

    def __init__(self, job: BatchJob) -> None:
        root = Path(job.root) if job.root else None
        self.job, self.pool, self.batch_chars = job, None, 0
        given: dict[str, Any] = dict(job.options)
        self.counter = counter_of(job.tokenizer, job.proxy, root)
        if method_info(job.method).needs_proxy:
            proxy = load_proxy(job.proxy, layers_needed(job.method, job.proxy, **job.options), root)
            cache = None if job.cache is None else PassageCache(folder=Path(job.cache))
            self.pool = given["proxy"] = PooledReader(with_cache(proxy, cache))
            self.batch_chars = proxy.batch_tokens * _CHARS_A_TOKEN if job.share else 0
        self.compressor = Compressor(
            build_method(job.method, root=root, **given),
            job.method,
            self.counter,
            ordering_methods(job.proxy, root),
        )

    def compress_rows(
        self, requests: Sequence[RowRequest], on_outcome: OutcomeCallback | None = None
    ) -> list[RowOutcome]:
        """The outcome of each request, in order; an error of one becomes its outcome.

        Args:
            on_outcome: called with each outcome as soon as it is known, in any order.
        """
        found: list[RowOutcome | None] = [None] * len(requests)
        for group in row_groups([request.chars for request in requests], self.batch_chars):
            for place, outcome in zip(
                group, self._compress_group([requests[i] for i in group]), strict=True
            ):
                found[place] = outcome
                if on_outcome:
                    on_outcome(outcome)
        return [outcome for outcome in found if outcome is not None]

    def _compress_group(self, requests: Sequence[RowRequest]) -> list[RowOutcome]:
        """The outcomes of a group; a row whose shared pass failed is tried again alone."""
        if self.pool is None or len(requests) == 1:
            return [self._compress_alone(request) for request in requests]
        calls = [partial(self._compress, request) for request in requests]
        results = self.pool.run_together(calls)
        return [
            self._compress_alone(request)
            if isinstance(result, SharedReadError)
            else (_error_outcome(result) if isinstance(result, Exception) else result)
            for request, result in zip(requests, results, strict=True)
        ]

    def _compress_alone(self, request: RowRequest) -> RowOutcome:
        try:
            return self._compress(request)
        except Exception as error:  # one row must not end a run of days; its message is recorded
            return _error_outcome(error)

    def _compress(self, request: RowRequest) -> RowOutcome:
        self.check_size(request)
        result = self.compressor.compress(
            request.question,
            request.passages,
            self.job.budget,
            self.job.rules,
            language=request.language(self.job.language),
        )
        return RowOutcome.from_compressed(result, request.warnings)

    def check_size(self, request: RowRequest) -> None:
        """Refuses a row of more tokens than the job allows.

        Raises:
            BadInput: it has more.
        """
        max_tokens = self.job.max_input
        if request.chars > max_tokens * _MAX_CHARS_A_TOKEN:
            raise BadInput(
                f"the row has {request.chars:,} characters, far beyond the {max_tokens:,} tokens "
                "that are read; split its documents over several rows, or raise --max-input"
            )
        if request.chars * _MAX_TOKENS_A_CHAR <= max_tokens:
            return
        tokens = sum(self.counter.count_many([passage.text for passage in request.passages]))
        if tokens > max_tokens:
            raise BadInput(
                f"the row has {tokens:,} tokens and at most {max_tokens:,} are read; allow it with "
                f"--max-input {tokens} --retry-errors, or split its documents over several rows"
            )


def row_groups(chars: Sequence[int], batch_chars: int) -> Iterator[list[int]]:
    """Positions of rows that are read together: of similar length, shortest first.

    Args:
        chars: of each row. batch_chars: those of one batch of the proxy; 0 for every row alone.
    """
    group: list[int] = []
    group_chars = 0
    for place in sorted(range(len(chars)), key=lambda i: (chars[i], i)):
        full = group_chars + chars[place] > batch_chars * _BATCHES_A_GROUP or len(group) == MAX_ROWS
        if group and (full or chars[place] * _ROWS_A_BATCH > batch_chars):
            yield group
            group, group_chars = [], 0
        group.append(place)
        group_chars += chars[place]
    if group:
        yield group


def _error_outcome(error: Exception) -> RowOutcome:
    name = "" if isinstance(error, TamisError) else f"{type(error).__name__}: "
    return RowOutcome(status="error", error=f"{name}{error}")
