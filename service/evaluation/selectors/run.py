"""`tamis bench selectors`: from input files to rows of figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from tamis.probes.errors import BadInput
from tamis.probes.model.proxy import Proxy
from tamis.service.evaluation.selectors.cases import Head, SelectorCase, StateCapture, content_mask
from tamis.service.evaluation.selectors.inputs import SelectorInputs, load_questions, load_text
from tamis.service.evaluation.selectors.measurement import (
    exact_reference,
    measure_selector,
    selector_row,
)

T = TypeVar("T")
MAX_QUESTIONS = {"training": 600, "test": 150}
"""At most so many are used, at even distances; each gives about 20 query states."""

StepListener = Callable[[str, int, int], object]
"""Called with the name of a stage, how much of it has just been done, and its total."""


@dataclass(frozen=True, slots=True)
class SelectorSettings:
    """What is measured.

    Attributes:
        tokens: lengths of text, in tokens of the proxy. selectors: by name.
        heads: layer and query head of each. window: tokens that the proxy reads at once.
        queries: how many test queries a head, at even distances.
        recall: that every selector has to reach.
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
class CapturedStates:
    """Keys and query states by head.

    Attributes:
        content: which tokens of the text have a letter or a digit: `[N]` bool.
    """

    keys: dict[Head, Tensor]
    train: dict[Head, Tensor]
    test: dict[Head, Tensor]
    content: Tensor


class SelectorRun:
    """Captures the states of a proxy once, then measures every selector at every length of text."""

    def __init__(
        self, proxy: Proxy, inputs: SelectorInputs, settings: SelectorSettings, cache: Path
    ) -> None:
        self.proxy, self.inputs, self.settings = proxy, inputs, settings
        self.capture = StateCapture(proxy, settings.heads, settings.window, cache)
        self.notes: list[str] = []
        if odd := [f"{layer}.{head}" for layer, head in settings.heads if head >= proxy.card.heads]:
            raise BadInput(
                f"there is no head {', '.join(odd)}: the heads of a layer of {proxy.card.name} "
                f"are 0 to {proxy.card.heads - 1}"
            )

    def report(self, on_step: StepListener) -> dict[str, Any]:
        """Rows of figures, and everything that they depend on."""
        captured = self.capture_states(on_step)
        lengths = self._text_lengths(len(captured.content))
        rows = [row for tokens in lengths for row in self._rows(captured, tokens, on_step)]
        return {
            "rows": rows,
            "recall": self.settings.recall,
            "heads": [f"{layer}.{head}" for layer, head in self.settings.heads],
            "window": self.settings.window,
            "train_queries": len(next(iter(captured.train.values()))),
            "test_queries": min(self.settings.queries, len(next(iter(captured.test.values())))),
            "text": [str(path) for path in self.inputs.text],
            "notes": self.notes,
        }

    def capture_states(self, on_step: StepListener) -> CapturedStates:
        """Keys of as much text as the longest length needs, and query states of all questions."""
        text, layout = load_text(self.inputs.text), self.proxy.layout
        encoded = layout.tokenizer.encode(text)
        ids = encoded.ids[: max(self.settings.tokens)]
        train = self._question_states("training", self.inputs.train, on_step)
        test = self._question_states("test", self.inputs.test, on_step)
        keys = self.capture.read_keys(ids, lambda n: on_step("tokens of text", n, len(ids)))
        content = content_mask([text[a:b] for a, b in encoded.offsets[: len(ids)]])
        return CapturedStates(keys, train, test, content)

    def _question_states(
        self, kind: str, paths: Sequence[Path], on_step: StepListener
    ) -> dict[Head, Tensor]:
        questions = take_evenly(load_questions(paths), MAX_QUESTIONS[kind])
        asks = [self.proxy.layout.question_tokens(question) for question in questions]
        return self.capture.read_queries(asks, lambda n: on_step(f"{kind} questions", n, len(asks)))

    def _text_lengths(self, available: int) -> list[int]:
        """The requested lengths, none longer than the text; a note for each that is."""
        for tokens in self.settings.tokens:
            if tokens > available:
                self.notes.append(
                    f"the text has {available:,} tokens and {tokens:,} were asked for; "
                    "give more with --text, --train and --test"
                )
        return sorted({min(tokens, available) for tokens in self.settings.tokens})

    def _rows(
        self, captured: CapturedStates, tokens: int, on_step: StepListener
    ) -> Iterator[dict[str, Any]]:
        cases = list(self._cases(captured, tokens))
        references = [exact_reference(case) for case in cases]
        for name in self.settings.selectors:
            heads = []
            for case, reference in zip(cases, references, strict=True):
                heads.append(measure_selector(name, case, reference, self.settings.recall))
                on_step(f"{name} at {tokens:,} tokens", 1, len(cases))
            yield selector_row(name, tokens, self.settings.recall, heads)

    def _cases(self, captured: CapturedStates, tokens: int) -> Iterator[SelectorCase]:
        content = captured.content[:tokens]
        if not content.any():
            raise BadInput(
                f"none of the first {tokens:,} tokens of the text has a letter or a digit; "
                "give more text, or another"
            )
        for layer, head in self.settings.heads:
            keys = captured.keys[layer, self.capture.key_head(head)][:tokens][content].float()
            test = captured.test[layer, head]
            rows = take_evenly(range(len(test)), self.settings.queries)
            yield SelectorCase((layer, head), keys, captured.train[layer, head], test[rows])


def take_evenly(items: Sequence[T], max_count: int) -> list[T]:
    """At most so many of the items, at even distances."""
    count = min(max_count, len(items))
    return [items[i * len(items) // count] for i in range(count)]


def parse_heads(names: Sequence[str]) -> tuple[Head, ...]:
    """Heads from names such as `14.3`, which is query head 3 of layer 14.

    Raises:
        BadInput: a name has another form, or a head is given twice.
    """
    heads = []
    for name in names:
        layer, dot, head = name.partition(".")
        if not (dot and layer.isdecimal() and head.isdecimal()):
            raise BadInput(f"{name!r} is no head; write layer and head with a dot, such as 14.3")
        heads.append((int(layer), int(head)))
    if len(set(heads)) < len(heads):
        raise BadInput(f"a head is given twice in {', '.join(names)}")
    return tuple(heads)
