"""Long computations look at bounded intervals whether they shall go on."""

from __future__ import annotations

import time

import pytest

from tamis import compress
from tamis.compressors.features.bm25 import Collection
from tamis.probes.interruption import check_interruption, interruptible
from tamis.text.terms import words
from tamis.text.types import Passage
from tamis.text.units.segment import segment, units_of

LONG = {
    "prose": "Room 7 is painted in spring, and nobody knows why. " * 2000,
    "paragraphs": "Rooms are blue.\n\n" * 6000,
    "one sentence": "room " * 20_000,
    "marks": "\u0301" * 60_000,
    "list": "- a room\n" * 10_000,
}
MOST_PAUSE_S = 0.5
"""Of the processor's time; a busy test machine is slow, and the work takes seconds."""


class Stop(Exception):
    """Raised by the tests' checks."""


def pauses_s(work) -> list[float]:
    """The processor's seconds between one look and the next."""
    looked, found = time.thread_time(), []

    def check() -> None:
        nonlocal looked
        found.append(time.thread_time() - looked)
        looked = time.thread_time()

    with interruptible(check):
        work()
    check()
    return found


@pytest.mark.parametrize("name", LONG)
@pytest.mark.parametrize(
    "work",
    [segment, words, lambda text: Collection([text]).score(["room"])],
    ids=["segment", "words", "BM25"],
)
def test_no_pause_is_long(name, work):
    text = LONG[name]
    assert max(pauses_s(lambda: work(text))) < MOST_PAUSE_S


def test_no_pause_is_long_while_sentences_are_chosen():
    sentences = " ".join(f"Room {n} has {n % 97} chairs." for n in range(20_000))
    asked = {"max_tokens": 50, "method": "lexical"}
    compress("room 7", [sentences[:2000]], **asked)  # loads modules and the tokenizer
    pauses = pauses_s(lambda: compress("room 7", [sentences], **asked))
    assert sum(pauses) > MOST_PAUSE_S > max(pauses)


def test_work_ends_where_its_check_raises():
    looks = 0

    def check() -> None:
        nonlocal looks
        looks += 1
        if looks == 3:
            raise Stop

    with pytest.raises(Stop), interruptible(check):
        units_of([Passage(LONG["paragraphs"])])
    assert looks == 3


def test_without_a_check_nothing_happens_and_the_inner_one_holds():
    check_interruption()
    seen = []
    with interruptible(lambda: seen.append("outer")):
        with interruptible(lambda: seen.append("inner")):
            check_interruption()
        check_interruption()
    check_interruption()
    assert seen == ["inner", "outer"]
