"""A small case for the adapters: a question, texts, and models without weights."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from tests.scripted import ScriptedReader

PIN = "The pin is in the barn."
ASKED = "Where is the pin?"
TEXTS = [
    "Nothing to see here at all. Only more hay.",
    f"Hay lies here. {PIN} More hay lies there.",
    "Still more hay. And then straw.",
]
WORDS = 6
"""A budget for `PIN` and nothing beside it, in words."""


def broken_reader() -> ScriptedReader:
    """A model that fails on every input."""

    def weigh(question: str, passage: str) -> Sequence[float]:
        raise RuntimeError("the card fell off the bus")

    return ScriptedReader(weigh)


class Gate:
    """A model that attends to the pin, but only after the gate was opened."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._open, self._begun = threading.Event(), threading.Semaphore(0)

    def reader(self) -> ScriptedReader:
        """A proxy for this gate."""
        return ScriptedReader(self._weigh)

    def open(self) -> None:
        """Lets everybody through, now and later."""
        self._open.set()

    def begun(self) -> bool:
        """Waits until one more prompt is being read; False if none comes."""
        return self._begun.acquire(timeout=10)

    def _weigh(self, question: str, passage: str) -> Sequence[float]:
        self.asked.append(question)
        self._begun.release()
        if not self._open.wait(timeout=20):
            raise TimeoutError("nobody opened the gate: the event loop is blocked")
        place = passage.find(PIN)
        inside = range(place, place + len(PIN)) if place >= 0 else range(0)
        return [1.0 if i in inside else 1e-4 for i in range(len(passage))]
