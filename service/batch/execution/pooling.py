"""One forward pass for many rows: alone, a short row would leave most of each batch empty.

Every row of a group runs the ordinary single call in a thread of its own. When it has prompts to
read it waits; once every row waits or is done, all prompts are read together, in the order of the
rows, and every row gets its own signals. So which prompts share a pass depends on the rows alone,
never on timing, and a method is not aware of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass, field
from typing import Any

from tamis.compressors.reading.windows import Reader
from tamis.probes.prompt import Prompt, Template
from tamis.probes.signal import Signal, Want

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
