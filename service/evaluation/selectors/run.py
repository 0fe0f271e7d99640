"""`tamis bench selectors` from files to rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from tamis.probes.errors import BadInput
from tamis.probes.model.proxy import Proxy
from tamis.service.evaluation.selectors.cases import Capture, Case, Head, content
from tamis.service.evaluation.selectors.selectors import measure, row, truth
from tamis.service.evaluation.selectors.text import Material, questions_of, text_of

T = TypeVar("T")
MOST_QUESTIONS = {"training": 600, "test": 150}
"""Evenly drawn where there are more: they give about 20 rows each."""

Step = Callable[[str, int, int], object]
"""Hears what is going on, how much of it was done now, and how much there is."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is measured.

    Attributes:
        tokens: lengths of text, in tokens of the proxy. selectors: by name.
        heads: layer and query head. window: tokens that the proxy reads at once.
        queries: test queries a head, evenly drawn. recall: what every selector has to reach.
    """

    tokens: tuple[int, ...]
    selectors: tuple[str, ...]
    heads: tuple[Head, ...]
    window: int = 2048
    queries: int = 400
    recall: float = 0.95

    def __post_init__(self) -> None:
        if not 0 < self.recall <= 1:
            raise BadInput(f"recall is {self.recall}; give a share above 0, up to 1")
        if low := [n for n in (*self.tokens, self.window, self.queries) if n < 1]:
            raise BadInput(f"tokens, window and queries are positive; got {low}")


@dataclass(frozen=True, slots=True)
class Captured:
    """All that was read: keys and query states of every head, and which tokens are words."""

    keys: dict[Head, Tensor]
    train: dict[Head, Tensor]
    test: dict[Head, Tensor]
    words: Tensor


class Run:
    """Reads once, then measures every selector at every length."""

    def __init__(self, proxy: Proxy, material: Material, settings: Settings, cache: Path) -> None:
        self.proxy, self.material, self.settings = proxy, material, settings
        self.capture = Capture(proxy, settings.heads, settings.window, cache)
        self.notes: list[str] = []
        if odd := [f"{layer}.{head}" for layer, head in settings.heads if head >= proxy.card.heads]:
            raise BadInput(
                f"there is no head {', '.join(odd)}: the heads of a layer of {proxy.card.name} "
                f"are 0 to {proxy.card.heads - 1}"
            )

    def report(self, step: Step) -> dict[str, Any]:
        """Rows, and all that they depend on."""
        captured = self.read(step)
        lengths = self._lengths(len(captured.words))
        rows = [r for tokens in lengths for r in self._rows(captured, tokens, step)]
        return {
            "rows": rows,
            "recall": self.settings.recall,
            "heads": [f"{layer}.{head}" for layer, head in self.settings.heads],
            "window": self.settings.window,
            "train_queries": len(next(iter(captured.train.values()))),
            "test_queries": min(self.settings.queries, len(next(iter(captured.test.values())))),
            "text": [str(path) for path in self.material.text],
            "notes": self.notes,
        }

    def read(self, step: Step) -> Captured:
        """Keys of as much text as the longest length wants, and states of all questions."""
        text, layout = text_of(self.material.text), self.proxy.layout
        encoded = layout.tokens.encode(text)
        ids = encoded.ids[: max(self.settings.tokens)]
        train = self._states("training", self.material.train, step)
        test = self._states("test", self.material.test, step)
        keys = self.capture.keys(ids, lambda n: step("tokens of text", n, len(ids)))
        words = content([text[a:b] for a, b in encoded.offsets[: len(ids)]])
        return Captured(keys, train, test, words)

    def _states(self, which: str, paths: Sequence[Path], step: Step) -> dict[Head, Tensor]:
        questions = evenly(questions_of(paths), MOST_QUESTIONS[which])
        asks = [self.proxy.layout.ask(question) for question in questions]
        return self.capture.queries(asks, lambda n: step(f"{which} questions", n, len(asks)))

    def _lengths(self, there: int) -> list[int]:
        for tokens in self.settings.tokens:
            if tokens > there:
                self.notes.append(
                    f"the text has {there:,} tokens and {tokens:,} were asked for; "
                    "give more with --text, --train and --test"
                )
        return sorted({min(tokens, there) for tokens in self.settings.tokens})

    def _rows(self, captured: Captured, tokens: int, step: Step) -> Iterator[dict[str, Any]]:
        cases = list(self._cases(captured, tokens))
        truths = [truth(case) for case in cases]
        for name in self.settings.selectors:
            measured = []
            for case, against in zip(cases, truths, strict=True):
                measured.append(measure(name, case, against, self.settings.recall))
                step(f"{name} at {tokens:,} tokens", 1, len(cases))
            yield row(name, tokens, self.settings.recall, measured)

    def _cases(self, captured: Captured, tokens: int) -> Iterator[Case]:
        words = captured.words[:tokens]
        if not words.any():
            raise BadInput(
                f"none of the first {tokens:,} tokens of the text has a letter or a digit; "
                "give more text, or another"
            )
        for layer, head in self.settings.heads:
            keys = captured.keys[layer, self.capture.kv(head)][:tokens][words].float()
            test = captured.test[layer, head]
            some = evenly(range(len(test)), self.settings.queries)
            yield Case((layer, head), keys, captured.train[layer, head], test[some])


def evenly(items: Sequence[T], most: int) -> list[T]:
    """At most so many of them, from all over."""
    count = min(most, len(items))
    return [items[i * len(items) // count] for i in range(count)]


def heads_of(names: Sequence[str]) -> tuple[Head, ...]:
    """`14.3` is query head 3 of layer 14.

    Raises:
        BadInput: another spelling, or a head given twice.
    """
    found = []
    for name in names:
        layer, dot, head = name.partition(".")
        if not (dot and layer.isdecimal() and head.isdecimal()):
            raise BadInput(f"{name!r} is no head; write layer and head with a dot, such as 14.3")
        found.append((int(layer), int(head)))
    if len(set(found)) < len(found):
        raise BadInput(f"a head is given twice in {', '.join(names)}")
    return tuple(found)
