"""A reader that says how far it has come."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tamis.probes.prompt import Prompt, Template
from tamis.probes.signal import Signal, Want

Hear = Callable[[int, int], None]
"""Hears how many prompts were read, and how many are known of."""


class Watched:
    """Reads as the reader behind it does, and counts; everything else is that reader's own."""

    def __init__(self, reader: Any, hear: Hear) -> None:
        self.reader, self.hear = reader, hear
        self.done = self.total = 0

    def __getattr__(self, name: str) -> Any:
        """Card, layout, context and whatever else the reader has."""
        return getattr(self.reader, name)

    def with_template(self, template: Template) -> Watched:
        """The same model, in other words, heard by the same."""
        return Watched(self.reader.with_template(template), self.hear)

    def read(self, prompts: Sequence[Prompt], want: Want) -> Iterator[Signal]:
        """The signal of each prompt, in order."""
        yield from self._counted(self.reader.read(prompts, want), len(prompts))

    def ask(self, prompts: Sequence[Prompt], kept: Any, want: Want) -> Iterator[Signal]:
        """The signal of each prompt over kept passages, in order."""
        yield from self._counted(self.reader.ask(prompts, kept, want), len(prompts))

    def _counted(self, signals: Iterator[Signal], prompts: int) -> Iterator[Signal]:
        self.total += prompts
        self.hear(self.done, self.total)
        for signal in signals:
            self.done += 1
            self.hear(self.done, self.total)
            yield signal
