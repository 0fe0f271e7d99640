"""What a model asks of those who read it whole: its opening token, and layers that see far."""

from __future__ import annotations

from typing import Any

from tamis.probes.errors import BadInput
from tamis.probes.prompt import Ask, Template

CONTEXT_TOKENS = 8192
"""Of a reader that does not say how long its prompts may be."""
_OPENINGS = ("<bos>", "<s>", "<|begin_of_text|>")


def opening_token(template: Template) -> str:
    """The token that a proxy's own prompts must begin with, as Gemma's; empty for most."""
    return next((token for token in _OPENINGS if template.head.startswith(token)), "")


def far_layers(reader: Any, tokens: int) -> tuple[int, ...]:
    """The layers whose rows see more than so many tokens back; all, if none does.

    A layer with a sliding window pays nothing to what lies before it, so its sums say where a
    document stands, not what it holds.

    Raises:
        BadInput: not every layer is loaded, and a sum over some would be another method.
    """
    proxy, layers = innermost_reader(reader), reader.card.layers
    if (depth := getattr(proxy, "depth", layers)) < layers:
        raise BadInput(
            f"every layer is read for this, and of {reader.card.name} {depth} of {layers} are "
            "loaded; load them all, or start the service with a method that reads them, such as icr"
        )
    every = tuple(range(layers))
    config = getattr(proxy, "config", None)
    if not (window := getattr(config, "sliding_window", None)) or window > tokens:
        return every
    kinds = getattr(config, "layer_types", None) or ("sliding_attention",) * len(every)
    return tuple(x for x in every if kinds[x] != "sliding_attention") or every


def document_tokens_left(reader: Any, ask: Ask, most: int) -> int:
    """Tokens of documents that one prompt holds beside its opening and a question, up to `most`.

    Raises:
        BadInput: the question leaves no room.
    """
    longest = context_tokens(reader)
    room = longest - len(reader.layout.head) - len(ask.ids)
    if room < 1:
        raise BadInput(
            f"the question takes {len(ask.ids)} tokens and {reader.card.name} takes {longest}; "
            "shorten the question"
        )
    return min(most, room)


def context_tokens(reader: Any) -> int:
    """Tokens of the longest prompt that a reader takes."""
    return int(getattr(innermost_reader(reader), "context_tokens", CONTEXT_TOKENS))


def innermost_reader(reader: Any) -> Any:
    """What knows the model, behind caches and whatever else reads by it: a proxy, or the engine."""
    while not hasattr(reader, "context_tokens") and (behind := _behind(reader)) is not None:
        reader = behind
    return reader


def _behind(reader: Any) -> Any:
    """The reader that one wraps, such as a cache's proxy."""
    return getattr(reader, "proxy", None) or getattr(reader, "reader", None)
