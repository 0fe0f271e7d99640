"""What a model needs for long prompts: its opening token, its context length, its global layers."""

from __future__ import annotations

from typing import Any

from tamis.probes.errors import BadInput
from tamis.probes.prompt import QuestionTokens, Template

CONTEXT_TOKENS = 8192
"""The context length of a reader that states none."""
_OPENING_TOKENS = ("<bos>", "<s>", "<|begin_of_text|>")


def opening_token(template: Template) -> str:
    """The token that a proxy's prompts must begin with, such as Gemma's `<bos>`; empty for most."""
    return next((token for token in _OPENING_TOKENS if template.opening.startswith(token)), "")


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


def document_tokens_left(reader: Any, question: QuestionTokens, most: int) -> int:
    """How many tokens of documents one prompt holds beside its head and a question, up to `most`.

    Raises:
        BadInput: the question leaves no room.
    """
    longest = context_tokens(reader)
    room = longest - len(reader.layout.opening) - len(question.ids)
    if room < 1:
        raise BadInput(
            f"the question takes {len(question.ids)} tokens and {reader.card.name} takes "
            f"{longest}; shorten the question"
        )
    return min(most, room)


def context_tokens(reader: Any) -> int:
    """The number of tokens of the longest prompt that a reader takes."""
    return int(getattr(innermost_reader(reader), "context_tokens", CONTEXT_TOKENS))


def innermost_reader(reader: Any) -> Any:
    """The reader that knows the model, inside caches and other wrappers: a proxy, or the engine."""
    while not hasattr(reader, "context_tokens") and (inner := _wrapped_reader(reader)) is not None:
        reader = inner
    return reader


def _wrapped_reader(reader: Any) -> Any:
    """The reader that a reader wraps, such as a cache's proxy."""
    return getattr(reader, "proxy", None) or getattr(reader, "reader", None)
