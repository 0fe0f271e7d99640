"""What a fault test promises, in words, and what came of it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Told:
    """What came of one kind of fault.

    Attributes:
        injected: faults that took effect. survived: those after which all that was promised held.
        lost: answers, rows, commits or bytes that are missing or wrong; 0 or the promise is broken.
        seen: a few words on what the faults hit.
    """

    injected: int
    survived: int
    lost: int
    seen: str = ""

    @property
    def kept(self) -> bool:
        """Whether the promise was kept, by at least one fault."""
        return self.injected == self.survived > 0 == self.lost


Run = Callable[[Path, int, random.Random], Told]


@dataclass(frozen=True, slots=True)
class Promise:
    """A kind of fault: its name, what holds nevertheless, how often it is tried, and the trial."""

    name: str
    says: str
    faults: int
    run: Run
