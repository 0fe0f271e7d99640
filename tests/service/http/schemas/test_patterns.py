"""How large a caller's regular expression is once it is written out, without writing it out."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest
import torch

from tamis.probes.errors import BadInput
from tamis.service.http.schemas.patterns import (
    ALL_S,
    MATCH_S,
    BoundedPattern,
    SearchTime,
    compile_pattern,
    count_states,
)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("abc", 3),
        (r"\d{4}", 4),
        ("(?:ab){3}c", 13),  # `?` and `:` of the group: `:` counts as a character
        ("[a-z]{2,5}x", 6),
        (r"[]\]]{3}", 3),
        ("a{,7}", 7),
        ("a{}b{x}", 7),
        (r"\{9\}", 3),
        ("((a{10}){10}){10}", 1000),
    ],
)
def test_states(pattern, expected):
    assert abs(count_states(pattern) - expected) <= 3


def bounded(pattern, seconds=60.0):
    """A pattern whose searches have so much time together."""
    return BoundedPattern(pattern, SearchTime(seconds))


@pytest.mark.parametrize("pattern", [")", "(", "[", "\\", "a**", "(?P<x>", "*"])
def test_what_is_no_regular_expression_is_refused_by_name(pattern):
    with pytest.raises(BadInput, match="no regular expression"):
        compile_pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "fault"),
    [
        ("a{" + "9" * 900 + "}", "states"),
        ("a{" + "9" * 5000 + "}", "5,003 characters"),
        ("a" + "{9}" * 300_000, "900,001 characters"),
    ],
)
def test_what_is_too_large_is_refused_without_being_counted_out(pattern, fault):
    began = time.process_time()
    with pytest.raises(BadInput, match=fault):
        compile_pattern(pattern)
    assert time.process_time() - began < 1


def test_ordinary_patterns_are_taken():
    around = "[^.]{0,200}"
    for pattern in (r"\b\d{4}-\d{2}-\d{2}\b", r"(?:ISO|DIN)[ -]?\d{3,5}", f"{around}x{around}"):
        assert compile_pattern(pattern)
    assert bounded(r"\d+").spans("a 12 b 3") == [(2, 4), (7, 8)]
    assert bounded(r"x*").spans("aa") == []
    assert bounded(r"x*").search("aa")


CALLS = [
    "(?R)",
    "(?0)",
    "(a)(?1)",
    "(?<x>a)(?&x)",
    "(?<x>a)(?P>x)",
    "(?+1)(a)",
    "(a)(?-1)",
    "[[](?R)",
]


@pytest.mark.parametrize("pattern", [*CALLS, "(?x) # [\n(?R)", "(?x)(?<y>a)(?P >y)"])
def test_groups_that_call_groups_are_refused(pattern):
    with pytest.raises(BadInput, match="calls a group"):
        compile_pattern(pattern)


def test_what_only_looks_like_a_call_is_taken():
    for pattern in (r"\(?R", r"a(?i:R)", r"(?-i:x)", r"(?P<R>a)(?P=R)", r"\\(?:R)"):
        assert compile_pattern(pattern)


def test_a_search_that_needs_all_memory_is_a_fault_of_the_pattern():
    """In a process that may take 300 MB more than it has."""
    code = """
import resource
from tamis.probes.errors import BadInput
from tamis.service.http.schemas import patterns

pattern = patterns.BoundedPattern(r"(?:(a|aa)+)+$", patterns.SearchTime())
patterns.MATCH_S = 60.0
text = "a" * 5_000_000 + "!"
with open("/proc/self/statm") as sizes:
    taken = int(sizes.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + 100_000_000,) * 2)
try:
    pattern.search(text)
except BadInput as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert "more memory than there is" in done.stdout, done.stderr


NESTED = r"(?:a|a)+[cd]"
"""Takes twice as long for every `a` more of a text that has neither `c` nor `d`."""


@pytest.fixture
def busy_threads():
    """Three threads that multiply beside the test, as a model does that reads."""
    ended, started = threading.Event(), threading.Barrier(4)
    matrix = torch.rand(1536, 1536)  # so large that a product, without the GIL, outlasts a search

    def work():
        started.wait()
        while not ended.is_set():
            torch.mm(matrix, matrix)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    yield started.wait
    ended.set()
    for thread in threads:
        thread.join()


def text_that_takes(seconds):
    """A text on which the nested pattern takes at least this much time, and about twice at most."""
    text = "a" * 12
    while True:
        began = time.thread_time()
        assert bounded(NESTED).spans(text) == []
        if time.thread_time() - began >= seconds:
            return text
        text += "a"


def test_what_other_threads_compute_is_not_counted(busy_threads):
    """`regex` counts the time of the process, of which this thread has a quarter here."""
    text = text_that_takes(MATCH_S / 3.5)
    busy_threads()
    assert bounded(NESTED).spans(text) == []


@pytest.mark.parametrize("search", ["search", "spans"])
@pytest.mark.parametrize("beside", [False, True])
def test_a_pattern_that_would_never_end_is_refused(beside, search, busy_threads):
    if beside:
        busy_threads()
    began = time.thread_time()
    with pytest.raises(BadInput, match=r"took more than 0\.25 s .* without nested repetition"):
        getattr(bounded(NESTED), search)("a" * 100)
    assert MATCH_S <= time.thread_time() - began <= 16 * MATCH_S
    if not beside:
        busy_threads()


def test_all_searches_of_a_call_have_one_limit_whatever_their_texts():
    """Of patterns that each stay within their time on each text, over texts that are all new."""
    time_left, text = SearchTime(), text_that_takes(MATCH_S / 4)
    patterns = [BoundedPattern(NESTED, time_left), BoundedPattern(f"x?{NESTED}", time_left)]
    searches, began = (
        (patterns[n % 2].search(f"{n} {text}") for n in range(1000)),
        time.thread_time(),
    )
    with pytest.raises(BadInput, match="took more than 2 s together"):
        list(searches)
    assert ALL_S <= time.thread_time() - began <= ALL_S + 8 * MATCH_S


def test_what_was_found_in_a_text_costs_nothing_again():
    pattern = bounded(r"\d", seconds=0.1)
    for _ in range(100_000):
        assert pattern.search("Room 12")
