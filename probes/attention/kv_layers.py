"""Cached keys and values of passages, exact or in 8 bits, checked before they are used.

Keys are cached after rotation. Every passage starts at the same position after the same opening, so
they are valid for every question.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tamis.probes.attention.coded_layer import CodedKVLayer
from tamis.probes.attention.recorder import KVLayer
from tamis.probes.attention.rounding.int8 import Int8KVLayer
from tamis.probes.attention.thin_layer import Placement, ThinKVLayer
from tamis.probes.errors import BadInput
from tamis.probes.prompt import Prompt

ExactKVLayers = tuple[KVLayer, ...]
"""Keys and values of some tokens, layer by layer."""

SeparateKVLayer = KVLayer | Int8KVLayer | ThinKVLayer
"""Keys and values of some tokens in one layer, apart: exact, in 8 bits, or thinned."""

StoredKVLayer = SeparateKVLayer | CodedKVLayer
"""The same, or coded together."""

KVLayers = Sequence[StoredKVLayer]
"""Keys and values of some tokens, layer by layer."""


def count_tokens(layers: KVLayers) -> int:
    """The number of tokens whose keys these are, or of which they were thinned."""
    first = layers[0]
    if isinstance(first, ThinKVLayer | CodedKVLayer):
        return first.tokens
    return first.keys.shape[1]


def count_columns(layer: StoredKVLayer) -> int:
    """The number of keys a head has of a passage: its tokens, where none was left out."""
    return layer.tokens if isinstance(layer, CodedKVLayer) else int(layer.keys.shape[1])


def placement_of(layer: StoredKVLayer) -> Placement | None:
    """Which tokens the columns of a layer stand for; None where column t is token t."""
    return layer.placement if isinstance(layer, ThinKVLayer) else None


def join_kv(opening: ExactKVLayers, following: Sequence[KVLayer]) -> ExactKVLayers:
    """Keys and values of the template's opening and of the tokens after it."""
    return tuple(
        KVLayer(torch.cat((a.keys, b.keys), 1), torch.cat((a.values, b.values), 1))
        for a, b in zip(opening, following, strict=True)
    )


def passage_kv(
    prompts: Sequence[Prompt], passages: Sequence[KVLayers], opening_tokens: int, depth: int
) -> list[KVLayers]:
    """Keys and values of each prompt's passage, without those of the template's opening.

    Args:
        passages: for each prompt, with the opening or without it.
        depth: how many layers are needed.

    Raises:
        BadInput: keys of other passages, or of too few layers, which would silently give wrong
            scores.
    """
    if len(passages) != len(prompts):
        raise BadInput(f"{len(prompts)} prompts and {len(passages)} kept passages; give one each")
    found = []
    for p, (prompt, layers) in enumerate(zip(prompts, passages, strict=True)):
        given, needed = count_tokens(layers) if layers else -1, len(prompt.passage.ids)
        if given not in (needed, opening_tokens + needed) or len(layers) < depth:
            raise BadInput(
                f"prompt {p} needs {opening_tokens + needed} kept tokens in {depth} layers, or "
                f"{needed} without the opening, and was given {max(given, 0)} in {len(layers)}; "
                "keep the passage again with this proxy"
            )
        found.append(layers if given == needed else _drop_first_tokens(opening_tokens, layers))
    return found


def _drop_first_tokens(count: int, layers: KVLayers) -> KVLayers:
    """The layers without their first tokens; 8-bit layers never contain the opening."""
    return [
        KVLayer(one.keys[:, count:], one.values[:, count:])
        for one in layers
        if isinstance(one, KVLayer)
    ]


def move_kv(layers: KVLayers, device: str | torch.device) -> KVLayers:
    """The same keys and values on a device; those that are there already are not copied."""
    return [_move_layer(one, device) for one in layers]


def _move_layer(layer: StoredKVLayer, device: str | torch.device) -> StoredKVLayer:
    if isinstance(layer, ThinKVLayer | CodedKVLayer):
        return layer.to(device)
    if isinstance(layer, Int8KVLayer):
        return Int8KVLayer(layer.keys.to(device), layer.values.to(device))
    return KVLayer(layer.keys.to(device), layer.values.to(device))
