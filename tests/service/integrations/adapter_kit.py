"""A small case for the adapters: what is asked, where it stands, and models without weights."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from tamis.probes.scripted import Scripted

PIN = "The pin is in the barn."
ASKED = "Where is the pin?"
TEXTS = [
    "Nothing to see here at all. Only more hay.",
    f"Hay lies here. {PIN} More hay lies there.",
    "Still more hay. And then straw.",
]
WORDS = 6
"""A budget for `PIN` and nothing beside it, in words."""


def broken() -> Scripted:
    """A model that breaks down whatever it reads."""

    def weigh(question: str, passage: str) -> Sequence[float]:
        raise RuntimeError("the card fell off the bus")

    return Scripted(weigh)


class Gate:
    """A model that looks at the pin, but only after somebody opened the gate."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._open, self._begun = threading.Event(), threading.Semaphore(0)

    def reader(self) -> Scripted:
        """A proxy for this gate."""
        return Scripted(self._weigh)

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
