"""What is kept of passages: keys and values, as they were or rounded, checked before they are used.

Keys are kept after rotation. Every passage starts at the same position behind the same opening, so
they hold for every question.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tamis.probes.attention.int8 import Int8KVLayer
from tamis.probes.attention.recorder import KVLayer
from tamis.probes.errors import BadInput
from tamis.probes.prompt import Prompt

ExactKVLayers = tuple[KVLayer, ...]
"""Keys and values of some tokens, layer by layer."""

KVLayers = Sequence[KVLayer | Int8KVLayer]
"""The same, in memory or from disk: as they were, or rounded."""


def join_kv(head: ExactKVLayers, kept: Sequence[KVLayer]) -> ExactKVLayers:
    """The template's opening and what was read behind it."""
    return tuple(
        KVLayer(torch.cat((a.keys, b.keys), 1), torch.cat((a.values, b.values), 1))
        for a, b in zip(head, kept, strict=True)
    )


def passage_kv(
    prompts: Sequence[Prompt], kept: Sequence[KVLayers], head: int, depth: int
) -> list[KVLayers]:
    """What is kept of each prompt's passage, without the opening's `head` tokens.

    Raises:
        BadInput: keys of other passages, or of too few layers: they would score without complaint,
            and wrong.
    """
    if len(kept) != len(prompts):
        raise BadInput(f"{len(prompts)} prompts and {len(kept)} kept passages; give one each")
    found = []
    for p, (prompt, layers) in enumerate(zip(prompts, kept, strict=True)):
        there, due = layers[0].keys.shape[1] if layers else -1, len(prompt.passage.ids)
        if there not in (due, head + due) or len(layers) < depth:
            raise BadInput(
                f"prompt {p} needs {head + due} kept tokens in {depth} layers, or {due} without "
                f"the opening, and was given {max(there, 0)} in {len(layers)}; "
                "keep the passage again with this proxy"
            )
        found.append(layers if there == due else _drop_first_tokens(head, layers))
    return found


def _drop_first_tokens(head: int, layers: KVLayers) -> KVLayers:
    """The layers without their first tokens; rounded ones are never kept with them."""
    return [
        KVLayer(one.keys[:, head:], one.values[:, head:])
        for one in layers
        if isinstance(one, KVLayer)
    ]


def move_kv(held: KVLayers, device: str | torch.device) -> KVLayers:
    """The same on another device; what is there already is not copied."""
    return [
        KVLayer(one.keys.to(device), one.values.to(device))
        if isinstance(one, KVLayer)
        else Int8KVLayer(one.keys.to(device), one.values.to(device))
        for one in held
    ]
