"""Cached keys and values of passages, exact or in 8 bits, checked before they are used.

Keys are cached after rotation. Every passage starts at the same position after the same opening, so
they are valid for every question.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tamis.probes.attention.coded_layer import CodedKVLayer
from tamis.probes.attention.recorder import KVLayer
from tamis.probes.attention.rounding.int8 import Int8KVLayer, Int8Vectors
from tamis.probes.attention.rounding.low_bits import LowBitVectors
from tamis.probes.attention.thin_layer import Placement, ThinKVLayer, Vectors
from tamis.probes.devices import ALIGNMENT, copy_to
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
    return first.tokens if isinstance(first, ThinKVLayer | CodedKVLayer) else first.keys.shape[1]


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


def move_kv(
    entries: Sequence[KVLayers], device: str | torch.device, own: bool = False
) -> list[KVLayers]:
    """Keys and values of several passages on another device, all of them in one copy.

    Args:
        own: whether each entry shall have memory of its own, which is freed with it; else all
            share that of the copy, until the last of them is gone.
    """
    device, sent, plans, sizes = torch.device(device), [], [], []
    for entry in entries:
        tensors: list[Tensor] = []
        for layer in entry:
            _map_tensors(layer, partial(_append, tensors))
        groups: dict[tuple[torch.dtype, torch.Size], list[int]] = {}
        for n, tensor in enumerate(tensors):
            groups.setdefault((tensor.dtype, tensor.shape), []).append(n)
        plan = sorted(groups.items(), key=lambda item: -item[0][0].itemsize)  # so all are aligned
        size = 0
        for _, places in plan:
            sent += [tensors[n].reshape(-1).view(torch.uint8) for n in places]
            size += sum(tensors[n].nbytes for n in places)
        if padding := -size % ALIGNMENT:
            sent.append(tensors[0].new_zeros(padding, dtype=torch.uint8))
        plans.append(plan)
        sizes.append(size + padding)
    flat = torch.cat(sent)
    flat = flat.cpu() if device.type == "cpu" else copy_to(flat, device)
    if own:
        parts = [flat.new_empty(size) for size in sizes]
        torch.split_with_sizes_copy(flat, sizes, out=parts)
    else:
        parts = list(torch.split(flat, sizes))
    return [_rebuild(*given) for given in zip(entries, plans, parts, strict=True)]


def _rebuild(entry: KVLayers, plan: Sequence[Any], part: Tensor) -> KVLayers:
    """The layers of an entry, out of its bytes in the order of the plan."""
    found: dict[int, Tensor] = {}
    start = 0
    for (dtype, shape), places in plan:
        size = dtype.itemsize * shape.numel() * len(places)
        together = part[start : start + size].view(dtype).view(len(places), *shape)
        found |= zip(places, together.unbind(0), strict=True)
        start += size
    tensors = iter([found[n] for n in range(len(found))])
    return [_map_tensors(layer, lambda _: next(tensors)) for layer in entry]


def _append(found: list[Tensor], tensor: Tensor) -> Tensor:
    found.append(tensor)
    return tensor


def _map_tensors(layer: StoredKVLayer, change: Callable[[Tensor], Tensor]) -> StoredKVLayer:
    """The layer with every tensor of it changed, always in the same order."""
    if isinstance(layer, CodedKVLayer):
        return CodedKVLayer(change(layer.packed), layer.code)
    keys, values = (_map_vectors(part, change) for part in (layer.keys, layer.values))
    if isinstance(layer, ThinKVLayer):
        own = layer.placement
        return ThinKVLayer(keys, values, None if own is None else own.map(change))
    kind: Any = type(layer)
    changed: StoredKVLayer = kind(keys, values)
    return changed


def _map_vectors(vectors: Vectors, change: Callable[[Tensor], Tensor]) -> Vectors:
    if isinstance(vectors, Tensor):
        return change(vectors)
    if isinstance(vectors, Int8Vectors):
        return Int8Vectors(change(vectors.codes), change(vectors.scales))
    packed, lows, steps = (change(one) for one in (vectors.packed, vectors.lows, vectors.steps))
    return LowBitVectors(packed, lows, steps, vectors.bits, vectors.shape)


def entry_device(layers: KVLayers) -> torch.device:
    """Where the keys and values of a passage are."""
    first = layers[0]
    if isinstance(first, CodedKVLayer):
        return first.packed.device
    keys = first.keys
    if isinstance(keys, Tensor):
        return keys.device
    return keys.codes.device if isinstance(keys, Int8Vectors) else keys.packed.device
