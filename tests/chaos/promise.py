"""The promise of a fault test and its outcome."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class FaultOutcome:
    """The outcome of one kind of fault.

    Attributes:
        injected: faults that took effect. survived: those after which the whole promise held.
        lost: answers, rows, commits or bytes that are missing or wrong; unless 0, the promise is
            broken.
        observed: a few words on what the faults hit.
    """

    injected: int
    survived: int
    lost: int
    observed: str = ""

    @property
    def kept(self) -> bool:
        """Whether the promise was kept, by at least one fault."""
        return self.injected == self.survived > 0 == self.lost


Run = Callable[[Path, int, random.Random], FaultOutcome]


@dataclass(frozen=True, slots=True)
class Promise:
    """A kind of fault: its name, the claim that must hold, how many faults, and the test."""

    name: str
    claim: str
    faults: int
    run: Run
