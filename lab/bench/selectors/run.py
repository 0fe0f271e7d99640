"""`tamis lab bench selectors`: from input files to rows of figures."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tamis.probes.errors import BadInput
from tamis.probes.model.proxy import Proxy
from tamis.probes.segmentation.segment import segment
from tamis_lab.bench.selectors.cases import Head, SelectorCase, StateCapture, content_mask
from tamis_lab.bench.selectors.fidelity import UnitSpans
from tamis_lab.bench.selectors.inputs import (
    DOCUMENT_SEPARATOR,
    SelectorInputs,
    load_questions,
    load_text,
)
from tamis_lab.bench.selectors.measurement import (
    HeadGroup,
    exact_reference,
    measure_group,
    selector_row,
)
from tamis_lab.datasets.records import take_evenly
from tamis_lab.methods.kv_search import registry as selector_registry

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
        passages, units: the passage and the unit of each token, `[N]`.
        questions: the question of each test row.
    """

    kv: dict[Head, tuple[Tensor, Tensor]]
    train: dict[Head, Tensor]
    test: dict[Head, Tensor]
    content: Tensor
    passages: Tensor
    units: Tensor
    questions: Tensor


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
            "test_queries": min(self.settings.queries, len(captured.questions)),
            "text": [str(path) for path in self.inputs.text],
            "notes": self.notes,
        }

    def capture_states(self, on_step: StepListener) -> CapturedStates:
        """Keys of as much text as the longest length needs, and query states of all questions."""
        text, layout = load_text(self.inputs.text), self.proxy.layout
        encoded = layout.tokenizer.encode(text)
        ids = encoded.ids[: max(self.settings.tokens)]
        train, _ = self._question_states("training", self.inputs.train, on_step)
        test, questions = self._question_states("test", self.inputs.test, on_step)
        kv = self.capture.read_kv(ids, lambda n: on_step("tokens of text", n, len(ids)))
        offsets = encoded.offsets[: len(ids)]
        content = content_mask([text[a:b] for a, b in offsets])
        breaks = [at.end() for at in re.finditer(DOCUMENT_SEPARATOR, text)]
        passages = torch.tensor([bisect_right(breaks, start) for start, _ in offsets])
        starts = [piece.start for piece in segment(text[: offsets[-1][1]])]
        units = torch.tensor([bisect_right(starts, start) for start, _ in offsets])
        return CapturedStates(kv, train, test, content, passages, units, questions)

    def _question_states(
        self, kind: str, paths: Sequence[Path], on_step: StepListener
    ) -> tuple[dict[Head, Tensor], Tensor]:
        questions = take_evenly(load_questions(paths), MAX_QUESTIONS[kind])
        asks = [self.proxy.layout.question_tokens(question) for question in questions]
        counts = torch.tensor([ask.rows for ask in asks])
        states = self.capture.read_queries(
            asks, lambda n: on_step(f"{kind} questions", n, len(asks))
        )
        return states, torch.arange(len(asks)).repeat_interleave(counts)

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
        cases = sorted(self._cases(captured, tokens), key=lambda case: case.head)
        content = captured.content[:tokens]
        owners = captured.passages[:tokens][content]
        units = UnitSpans.from_numbers(captured.units[:tokens][content], owners)
        references = [exact_reference(case, units) for case in cases]
        passages = passage_spans(owners)
        for name in self.settings.selectors:
            # selectors that share a choice search all heads at once, the others each for itself
            shares = bool(selector_registry.SELECTORS.load(name).info.needs)
            size, heads = len(cases) if shares else 1, []
            for start in range(0, len(cases), size):
                part = slice(start, start + size)
                group = HeadGroup(name, cases[part], references[part], passages)
                heads += measure_group(group, self.settings.recall)
                on_step(f"{name} at {tokens:,} tokens", size, len(cases))
            yield selector_row(name, tokens, self.settings.recall, heads)

    def _cases(self, captured: CapturedStates, tokens: int) -> Iterator[SelectorCase]:
        content = captured.content[:tokens]
        if not content.any():
            raise BadInput(
                f"none of the first {tokens:,} tokens of the text has a letter or a digit; "
                "give more text, or another"
            )
        rows = whole_questions(captured.questions, self.settings.queries)
        for layer, head in self.settings.heads:
            kv = captured.kv[layer, self.capture.key_head(head)]
            keys, values = (part[:tokens][content].float() for part in kv)
            yield SelectorCase(
                (layer, head),
                keys,
                captured.train[layer, head],
                captured.test[layer, head][rows],
                values,
                captured.questions[rows],
            )


def passage_spans(passages: Tensor) -> Tensor:
    """The half-open span of keys of each passage, `[P, 2]`, from the passage of each key."""
    ends = torch.unique_consecutive(passages, return_counts=True)[1].cumsum(0)
    return torch.stack((torch.cat((ends.new_zeros(1), ends[:-1])), ends), 1)


def whole_questions(questions: Tensor, max_rows: int) -> Tensor:
    """At most so many rows, of whole questions at even distances; the last one may be cut."""
    names = torch.unique_consecutive(questions)
    number = max(1, -(-max_rows * len(names) // len(questions)))
    chosen = take_evenly(names.tolist(), number)
    return torch.isin(questions, torch.tensor(chosen)).nonzero()[:max_rows, 0]


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
