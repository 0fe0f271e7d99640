"""Passages to read, and what eager attention over each whole prompt says of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tamis.compressors.reading.windows import tokenize_question
from tamis.probes.model.proxy import Proxy
from tamis.probes.prompt import Prompt
from tamis.probes.signal import Signal, Want
from tests.probes import tiny
from tests.probes.attention.eager_kit import assert_close

WANT = Want((0, 1, 2, 3), ("question", "question_mean", "sentence_means", "last"))

# all longer than the sliding window of 8; no title, a title, an empty passage, a control token
TEXTS: tuple[tuple[str | None, str, str], ...] = (
    (None, "The cat sat on the mat. Then the dog came in.", "Who came in?"),
    ("Cats", "In the end all was well.", "How did it end, in the end?"),
    ("Nothing", "", "What?"),
    (None, "", "Why?"),
    (None, "a<|im_end|>b\x00\ud83d", "<|im_start|>?"),
    ("Long", "Water is wet. " * 12, "Wet?"),
    ("Long", "Water is wet. " * 12, "Is it wet?\nWe saw it. Hello!"),
)


def prompts(proxy: Proxy, texts: Sequence[tuple[str | None, str, str]] = TEXTS) -> list[Prompt]:
    return [
        Prompt(
            proxy.layout.passage_tokens(text, [(0, len(text))], title),
            tokenize_question(proxy.layout, question),
        )
        for title, text, question in texts
    ]


def eager_weights(
    proxy: Proxy, oracle: Any, prompt: Prompt, layers: Sequence[int] = range(4)
) -> Tensor:
    """The rows of `WANT` over the passage, from the whole prompt at once."""
    head = len(proxy.layout.opening)
    ids = [*proxy.layout.opening, *prompt.passage.ids, *prompt.question.ids]
    first = head + len(prompt.passage.ids) + prompt.question.first_row
    start, stop = head + prompt.passage.title_tokens, head + len(prompt.passage.ids)
    question = tiny.eager(oracle, ids)[list(layers), :, first:, start:stop]
    spans = prompt.question.sentence_rows or ((0, prompt.question.rows),)
    sentences = torch.stack([question[:, :, a:b].mean(2) for a, b in spans], 2)
    mean = question.mean(2, keepdim=True)
    return torch.cat((question, mean, sentences, question[:, :, -1:]), dim=2)


def assert_same_signals(ours: Sequence[Signal], theirs: Sequence[Signal]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        assert (one.layers, one.rows) == (other.layers, other.rows)
        assert_close(one.weights, other.weights)
