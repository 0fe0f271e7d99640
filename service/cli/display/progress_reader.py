"""A reader that reports its progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tamis.probes.prompt import Prompt, Template
from tamis.probes.signal import Signal, Want

ProgressCallback = Callable[[int, int], None]
"""Called with the number of prompts read, and the number of prompts known so far."""


class ProgressReader:
    """Reads as the reader that it wraps, and counts prompts; other attributes are the reader's."""

    def __init__(self, reader: Any, on_progress: ProgressCallback) -> None:
        self.reader, self.on_progress = reader, on_progress
        self.done = self.total = 0

    def __getattr__(self, name: str) -> Any:
        """Card, layout, context and other attributes of the wrapped reader."""
        return getattr(self.reader, name)

    def with_template(self, template: Template) -> ProgressReader:
        """The same model with another template, and the same callback."""
        return ProgressReader(self.reader.with_template(template), self.on_progress)

    def read(self, prompts: Sequence[Prompt], want: Want) -> Iterator[Signal]:
        """The signal of each prompt, in order."""
        yield from self._count(self.reader.read(prompts, want), len(prompts))

    def read_cached(self, prompts: Sequence[Prompt], passages: Any, want: Want) -> Iterator[Signal]:
        """The signal of each prompt over kept passages, in order."""
        yield from self._count(self.reader.read_cached(prompts, passages, want), len(prompts))

    def _count(self, signals: Iterator[Signal], prompts: int) -> Iterator[Signal]:
        self.total += prompts
        self.on_progress(self.done, self.total)
        for signal in signals:
            self.done += 1
            self.on_progress(self.done, self.total)
            yield signal
