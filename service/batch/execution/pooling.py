"""One forward pass for many rows: short rows would leave most of each batch empty.

Every row of a group runs the ordinary single call in a thread of its own. Where it wants prompts
read it waits; once every row waits or is done, all prompts are read together, in the order of the
rows, and every row gets its own signals. So what is read together depends on the rows alone, never
on timing, and a method needs to know nothing of it.
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

MOST_ROWS = 32
"""Rows of one group, each in a thread of its own."""


class NotShared(Exception):
    """The common reading failed; the row has to be done alone to learn whose fault it was."""


@dataclass(slots=True)
class _Call:
    """What one row wants read, and what came of it."""

    reader: Pooled
    prompts: Sequence[Prompt]
    want: Want
    signals: list[Signal] | None = None
    error: BaseException | None = None


@dataclass(slots=True)
class _Table:
    """Rows that read together; `living` counts those that are not done, `over` ends the wait."""

    living: int
    over: bool = False
    waiting: dict[int, _Call] = field(default_factory=dict)
    turn: threading.Condition = field(default_factory=threading.Condition)


class Pooled:
    """A reader that waits for the other rows of its group; outside a group, the reader behind."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.card, self.layout = reader.card, reader.layout
        self._seat = threading.local()
        self._threads = ThreadPoolExecutor(MOST_ROWS, "tamis-row")

    def with_template(self, template: Template) -> Pooled:
        """The same model and the same group, in other words."""
        twin = copy(self)
        twin.reader = self.reader.with_template(template)
        twin.layout = twin.reader.layout
        return twin

    def read(self, prompts: Sequence[Prompt], want: Want) -> Iterator[Signal]:
        """As the reader behind; in a group, together with the other rows' prompts.

        Raises:
            NotShared: the common reading failed, maybe over another row's prompt.
        """
        table: _Table | None = getattr(self._seat, "table", None)
        if table is None or not prompts:
            yield from self.reader.read(prompts, want)
            return
        call = _Call(self, prompts, want)
        with table.turn:
            table.waiting[self._seat.row] = call
            table.turn.notify_all()
            table.turn.wait_for(lambda: table.over or call.signals is not None or call.error)
        if call.signals is None:
            raise NotShared(str(call.error or "interrupted")) from call.error
        yield from call.signals

    def together(self, calls: Sequence[Callable[[], Any]]) -> list[Any]:
        """The results of up to `MOST_ROWS` calls that read through this reader, or their errors.

        The model runs in the thread of the caller: its own threads are made once, not once a row.
        """
        table = _Table(len(calls))
        futures = [
            self._threads.submit(self._sit, table, row, call) for row, call in enumerate(calls)
        ]
        with table.turn:
            try:
                while table.living:
                    table.turn.wait_for(lambda: len(table.waiting) == table.living)
                    waiting, table.waiting = table.waiting, {}
                    _serve([waiting[row] for row in sorted(waiting)])
                    table.turn.notify_all()
            finally:
                table.over = True  # interrupted: nobody must wait for ever
                table.turn.notify_all()
        return [future.result() for future in futures]

    def _sit(self, table: _Table, row: int, call: Callable[[], Any]) -> Any:
        self._seat.table, self._seat.row = table, row
        try:
            return call()
        except Exception as error:
            return error
        finally:
            self._seat.table = None
            with table.turn:
                table.living -= 1
                table.turn.notify_all()


def _serve(calls: Sequence[_Call]) -> None:
    """Reads what is wanted, one reading for all calls that want the same of the same reader."""
    alike: dict[Any, list[_Call]] = {}
    for call in calls:
        alike.setdefault((call.reader.layout.template, call.want), []).append(call)
    for same in alike.values():
        prompts = [prompt for call in same for prompt in call.prompts]
        try:
            signals = iter(list(same[0].reader.reader.read(prompts, same[0].want)))
        except Exception as error:
            for call in same:
                call.error = error
            continue
        for call in same:
            call.signals = [next(signals) for _ in call.prompts]
