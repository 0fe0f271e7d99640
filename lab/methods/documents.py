"""Whole documents in one prompt, and the attention that the prompt's last token pays to each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch

from tamis.compressors.reading.windows import Reader, innermost_reader
from tamis.probes.errors import BadInput
from tamis.probes.prompt import PassageTokens, Prompt, QuestionTokens, token_batches
from tamis.probes.signal import Want
from tamis.text.types import Passage


def document_ids(reader: Reader, passages: Sequence[Passage]) -> list[tuple[int, ...]]:
    """Each document as tokens: its title on a line, its text, a blank line."""
    encode = reader.layout.tokenizer.encode
    return [
        tuple(encode(f"{p.title}\n{p.text}\n\n" if p.title else f"{p.text}\n\n").ids)
        for p in passages
    ]


def mean_attention(
    reader: Reader,
    documents: Sequence[tuple[int, ...]],
    query: QuestionTokens,
    window_tokens: int,
    far_tokens: int | None = None,
) -> Iterator[float]:
    """The last row's attention to each document, averaged over its tokens, all layers and heads.

    Documents of more than `window_tokens` in all are read in several prompts, in order. Layers that
    attend no more than `far_tokens` back are left out; by default `window_tokens`.
    """
    want = Want(long_range_layers(reader, far_tokens or window_tokens), ("last",))
    prompts, spans = [], []
    for group in token_batches(documents, window_tokens):
        ends = torch.tensor([0, *map(len, group)]).cumsum(0).tolist()
        spans.append(list(pairwise(ends)))
        ids = tuple(token for document in group for token in document)
        prompts.append(Prompt(PassageTokens(ids, 0, ()), query))
    for signal, inside in zip(reader.read(prompts, want), spans, strict=True):
        yield from signal.pool(inside, "mean").mean((1, 2, 3)).tolist()


def long_range_layers(reader: Any, tokens: int) -> tuple[int, ...]:
    """The layers that attend more than `tokens` tokens back; all layers, if none does.

    A layer with a sliding window attends to nothing before it, so sums over a document would depend
    on where the document is in the prompt, not on what it holds.

    Raises:
        BadInput: not every layer is loaded, and a sum over some would be another method.
    """
    proxy, layers = innermost_reader(reader), reader.card.layers
    if (depth := getattr(proxy, "depth", layers)) < layers:
        raise BadInput(
            f"every layer is read for this, and of {reader.card.name} {depth} of {layers} are "
            "loaded; load them all, or start the service with a method that reads them all"
        )
    every = tuple(range(layers))
    config = getattr(proxy, "config", None)
    if not (window := getattr(config, "sliding_window", None)) or window > tokens:
        return every
    kinds = getattr(config, "layer_types", None) or ("sliding_attention",) * len(every)
    return tuple(x for x in every if kinds[x] != "sliding_attention") or every
