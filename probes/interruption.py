"""Where a long computation looks whether it shall go on.

What takes time in proportion to a text (finding sentences, counting words) calls
`check_interruption` at bounded intervals. Whoever runs it within `interruptible(check)` has `check`
called there, in the same thread, and ends the work by raising from it. Elsewhere nothing happens.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_check: ContextVar[Callable[[], None] | None] = ContextVar("interruption_check", default=None)


@contextmanager
def interruptible(check: Callable[[], None]) -> Iterator[None]:
    """Has `check` called by the computations of this thread; what it raises ends them."""
    token = _check.set(check)
    try:
        yield
    finally:
        _check.reset(token)


def check_interruption() -> None:
    """Goes on, or raises what the check of this thread raises."""
    if (check := _check.get()) is not None:
        check()


def end_with_task(
    function: Callable[P, Coroutine[Any, Any, T]],
) -> Callable[P, Coroutine[Any, Any, T]]:
    """The function; what it has a thread compute ends at its next check once it is cancelled."""

    @wraps(function)
    async def run(*given: P.args, **named: P.kwargs) -> T:
        is_over = False

        def check() -> None:
            if is_over:
                from asyncio import CancelledError  # loaded: the function that ended is async

                raise CancelledError

        with interruptible(check):
            try:
                return await function(*given, **named)
            finally:
                is_over = True

    return run
