"""Regular expressions of callers: bounded in size before compiling, in time when matching."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import regex

from tamis.probes.errors import BadInput
from tamis.probes.interruption import check_interruption
from tamis.service.engine.errors import OutOfTime
from tamis.service.engine.request import current_request

T = TypeVar("T")
MATCH_S, ALL_S = 0.25, 2.0
"""Processor time of the matching thread that one search may take, and all searches of a call."""
LATE_S = 0.5
"""How long after its deadline a request is still searched for patterns."""
MAX_CHARS, MAX_STATES = 1000, 10_000
_COUNT = regex.compile(r"\{(\d*+)(,?)(\d*)\}")
_CALL = regex.compile(r"(?s)(?:[^\\]|\\.)*?\(\?(?:R|[+-]?\d|&|P(?![<=]))")
"""Up to a group that calls another or itself: what such calls keep has no bound."""


def compile_pattern(pattern: str) -> Any:
    """A pattern, ready to match.

    Raises:
        BadInput: it is not a regular expression, too long, unrolls into too many states, or calls
            a group.
    """
    states = count_states(pattern) if len(pattern) <= MAX_CHARS else None
    if states is None or states > MAX_STATES:
        counted = "" if states is None else f" and about {states:,} states"
        raise BadInput(
            f"protect has a pattern of {len(pattern):,} characters{counted}; at most {MAX_CHARS:,} "
            f"and {MAX_STATES:,} are taken: counts in braces multiply where they are nested"
        )
    if _CALL.match(pattern):
        raise BadInput(
            f"protect has {pattern!r:.80}, which calls a group as (?R), (?1), (?&name) and "
            "(?P>name) do; such calls are not taken: write out what they stand for"
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


@dataclass(slots=True)
class SearchTime:
    """Processor time that the patterns of one call may still take, in seconds: for all its inputs,
    documents and patterns together."""

    left_s: float = ALL_S


class BoundedPattern:
    """A caller's pattern: each search is bounded in time, and so are all searches of the call."""

    def __init__(self, pattern: str, time_left: SearchTime) -> None:
        """Compiles it.

        Raises:
            BadInput: as `compile_pattern`.
        """
        self.pattern, self._compiled = pattern, compile_pattern(pattern)
        self._time = time_left
        self._found: dict[str, bool] = {}

    def search(self, text: str, /) -> bool:
        """Whether a text has a match, be it empty; each text is searched once.

        Raises:
            BadInput: the search took too long, or all searches of the call did. OutOfTime: the
                request's deadline passed longer ago than a late answer may take for patterns.
        """
        if text not in self._found:
            self._found[text] = self._find_in_time(
                lambda timeout_s: self._compiled.search(text, timeout=timeout_s) is not None
            )
        return self._found[text]

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Spans of the matches that are not empty.

        Raises:
            BadInput, OutOfTime: as `search`.
        """

        def find(timeout_s: float) -> list[tuple[int, int]]:
            found = self._compiled.finditer(text, timeout=timeout_s)
            return [match.span() for match in found if match.end() > match.start()]

        return self._find_in_time(find)

    def _find_in_time(self, find: Callable[[float], T]) -> T:
        """What `find` finds within the time that this thread's processor may take for it.

        `regex` counts the processor time of the whole process, which other threads (a model that
        reads) use up, too. A search that it ended before this thread had its time is made again
        with twice as much: so no load makes a good pattern fail, and a bad one costs twice the
        limit or so.

        Args:
            find: takes the seconds after which it raises `TimeoutError`.
        """
        request = current_request()
        if request is not None and request.is_late(LATE_S):
            raise OutOfTime("the patterns of protect were not searched within timeout_ms")
        shown = f"{self.pattern!r:.80}"
        most_s = process_s = min(MATCH_S, self._time.left_s)
        while process_s > 0:
            check_interruption()
            began = time.thread_time()
            try:
                return find(process_s)
            except TimeoutError:
                if time.thread_time() - began >= most_s:
                    break
            except MemoryError:
                raise BadInput(
                    f"the pattern {shown} of protect needs more memory than there is on one text; "
                    "write it without nested repetition"
                ) from None
            finally:
                self._time.left_s -= time.thread_time() - began
            process_s *= 2
        if most_s < MATCH_S:
            raise BadInput(
                f"the patterns of protect took more than {ALL_S:g} s together, and {shown} was "
                "being searched; write them without nested repetition, or send fewer documents"
            )
        raise BadInput(
            f"the pattern {shown} of protect took more than {MATCH_S:g} s on one text; write it "
            "without nested repetition"
        )
