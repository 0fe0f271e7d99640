"""Regular expressions of callers: bounded in size before compiling, in time when matching."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import regex

from tamis.probes.errors import BadInput
from tamis.probes.interruption import check_interruption
from tamis.service.engine.errors import OutOfTime
from tamis.service.engine.request import current_request

T = TypeVar("T")
MATCH_S = 0.25
"""Processor time of the matching thread that a pattern may take on one document."""
LATE_S = 0.5
"""How long after its deadline a request is still searched for patterns."""
MAX_CHARS, MAX_STATES = 1000, 10_000
_COUNT = regex.compile(r"\{(\d*+)(,?)(\d*)\}")


def compile_pattern(pattern: str) -> Any:
    """A pattern, ready to match.

    Raises:
        BadInput: it is not a regular expression, too long, or unrolls into too many states.
    """
    states = count_states(pattern) if len(pattern) <= MAX_CHARS else None
    if states is None or states > MAX_STATES:
        counted = "" if states is None else f" and about {states:,} states"
        raise BadInput(
            f"protect has a pattern of {len(pattern):,} characters{counted}; at most {MAX_CHARS:,} "
            f"and {MAX_STATES:,} are taken: counts in braces multiply where they are nested"
        )
    try:
        return regex.compile(pattern)
    except (regex.error, ValueError, OverflowError, RecursionError) as error:
        raise BadInput(
            f"protect has {pattern!r:.80}, which is no regular expression ({error}); "
            "escape characters that are meant literally with a backslash"
        ) from error


def count_states(pattern: str) -> int:
    """About how many states a pattern has once its counted repeats are unrolled.

    Each character is one; a count in braces multiplies what precedes it. Only escapes, classes and
    groups are parsed: text that is not a regular expression gets a number, too.
    """
    sums, last, i = [0], 0, 0
    while i < len(pattern):
        char = pattern[i]
        count = _COUNT.match(pattern, i) if char == "{" else None
        if count and (count[1] or count[3]):
            times = int(count[3] or count[1])
            sums[-1] += last * (max(times, 1) - 1)
            last *= max(times, 1)
            i = count.end()
            continue
        if char == "(":
            sums.append(0)
        elif char == ")" and len(sums) > 1:
            last = max(sums.pop(), 1)
            sums[-1] += last
        elif char not in "*+?|)":
            last = 1
            sums[-1] += 1
        i = _next_position(pattern, i)
    return sum(sums)


def _next_position(pattern: str, i: int) -> int:
    """The position after a character, an escape or a class."""
    if pattern[i] == "\\":
        return i + 2
    if pattern[i] != "[":
        return i + 1
    i += 2  # a bracket that comes first is a member
    while i < len(pattern) and pattern[i] != "]":
        i += 2 if pattern[i] == "\\" else 1
    return i + 1


def match_spans(pattern: Any, text: str) -> list[tuple[int, int]]:
    """Spans of the matches that are not empty.

    Raises:
        BadInput: matching took more than a quarter second; a caller's pattern may never finish.
    """

    def find(timeout_s: float) -> list[tuple[int, int]]:
        found = pattern.finditer(text, timeout=timeout_s)
        return [match.span() for match in found if match.end() > match.start()]

    return _find_in_time(pattern, find, MATCH_S)


class BoundedPattern:
    """A caller's pattern as the selection searches it: unit by unit, each text once.

    All units together may take as long as one search of each document.
    """

    def __init__(self, pattern: str, documents: int) -> None:
        """Compiles it.

        Raises:
            BadInput: as `compile_pattern`.
        """
        self.pattern, self._compiled = pattern, compile_pattern(pattern)
        self._left_s = MATCH_S * max(1, documents)
        self._found: dict[str, bool] = {}

    def search(self, text: str, /) -> bool:
        """Whether a text has a match, be it empty.

        Raises:
            BadInput: the pattern has had all of its time. OutOfTime: the request's deadline passed
                longer ago than a late answer may take for patterns.
        """
        if text not in self._found:
            request = current_request()
            if request is not None and request.is_late(LATE_S):
                raise OutOfTime("the patterns of protect were not searched within timeout_ms")
            began = time.thread_time()

            def find(timeout_s: float) -> bool:
                return self._compiled.search(text, timeout=timeout_s) is not None

            self._found[text] = _find_in_time(self._compiled, find, self._left_s)
            self._left_s -= time.thread_time() - began
        return self._found[text]


def _find_in_time(pattern: Any, find: Callable[[float], T], most_s: float) -> T:
    """What `find` finds within so many seconds of this thread's processor time.

    `regex` counts the processor time of the whole process, which other threads (a model that reads)
    use up, too. A search that it ended before this thread had its time is made again with twice as
    much: so no load makes a good pattern fail, and a bad one costs twice the limit or so.

    Args:
        find: takes the seconds after which it raises `TimeoutError`.

    Raises:
        BadInput: it took longer.
    """
    process_s = most_s
    while process_s > 0:
        check_interruption()
        began = time.thread_time()
        try:
            return find(process_s)
        except TimeoutError:
            if time.thread_time() - began >= most_s:
                break
        process_s *= 2
    raise BadInput(
        f"the pattern {pattern.pattern!r:.80} of protect took more than {MATCH_S:g} s on one "
        "document; write it without nested repetition"
    )
