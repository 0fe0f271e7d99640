"""How passages are kept: exact, in 8 bits, or thin; what no reading uses is never kept.

`thin` is coded by the model's codec, where it has one that covers the layers, and in 2 bits a
component where not.

A forward pass ends with the attention rows of its deepest layer, before they weigh any value, and
an entry serves readings of as many layers as it has, or fewer: so the values of its last layer are
not kept, unless a reading paused there and may go on. That loses nothing and saves a fortieth of
the bytes in 20 layers.

What each storage costs and saves: lab/log/thin.md#2026-11-26-what-nothing-reads-and-bits and
lab/log/thin.md#2026-11-27-keys-and-values-coded-together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from tamis.probes.attention.coded_layer import CodedKVLayer
from tamis.probes.attention.kv_layers import KVLayers, StoredKVLayer
from tamis.probes.attention.recorder import KVBatch, KVLayer
from tamis.probes.attention.rounding.int8 import Int8KVLayer, Int8Vectors
from tamis.probes.attention.rounding.low_bits import CHUNK_ELEMENTS, LowBitVectors, is_joinable
from tamis.probes.attention.thin_layer import ThinKVLayer, Vectors
from tamis.probes.kv_cache.codec import KVCodec

Storage = Literal["exact", "int8", "thin"]
STORAGES: tuple[Storage, ...] = get_args(Storage)

KEY_BITS, VALUE_BITS = 2, 2
"""Bits of a component in `thin` without a codec, by channel:
lab/log/thin.md#2026-11-26-what-nothing-reads-and-bits."""


def storage_identity(storage: Storage, codec: KVCodec | None) -> str:
    """What tells entries of a storage, and of its settings, from others in a cache key."""
    if storage != "thin":
        return storage
    own = "" if codec is None else f", codec {codec.digest}"
    return f"thin k{KEY_BITS} v{VALUE_BITS} channel{own}"


def store_layers(
    layers: Sequence[KVLayer],
    storage: Storage,
    may_go_on: bool = False,
    codec: KVCodec | None = None,
    first: int = 0,
) -> KVLayers:
    """A passage as it is kept: in the storage's numbers, without the values of the last layer.

    Args:
        may_go_on: whether deeper layers may follow, which need those values.
        codec: of the model. first: the model's layer that the first of these is.
    """
    stop = first + len(layers)
    if storage == "thin" and codec is not None and codec.covers(first, stop, may_go_on):
        return codec.encode(layers, first)
    *others, last = layers
    heads, _, size = last.values.shape
    read = layers
    if not may_go_on:
        read = [*others, KVLayer(last.keys, last.values.new_empty(heads, 0, size))]
    if storage == "int8":
        quantize = Int8Vectors.quantize
        return [Int8KVLayer(quantize(one.keys), quantize(one.values)) for one in read]
    return [thin_layer(one, KEY_BITS, VALUE_BITS) for one in read] if storage == "thin" else read


def store_batch(
    batch: KVBatch, storage: Storage, may_go_on: bool = False, codec: KVCodec | None = None
) -> list[KVLayers]:
    """What `store_layers` makes of each passage of a batch, in a few calls for all of them."""
    stop = batch.first + len(batch.parts) // 2
    if storage == "thin" and codec is not None and codec.covers(batch.first, stop, may_go_on):
        return codec.encode_batch(batch)
    parts = batch.parts if may_go_on else batch.parts[:-1]
    _, tokens, size = parts[0].shape
    if storage == "thin" and tokens and KEY_BITS == VALUE_BITS and is_joinable(KEY_BITS, size):
        return _thin_batch(batch, parts)
    if storage != "int8":
        layers = batch.exact(with_last_values=may_go_on)
        if storage == "exact":
            return list(layers)
        return [[thin_layer(one, KEY_BITS, VALUE_BITS) for one in own] for own in layers]
    whole = Int8Vectors.quantize(torch.stack(list(parts)))
    found: list[KVLayers] = []
    for codes, scales in zip(
        batch.split(whole.codes, 2), batch.split(whole.scales, 2), strict=True
    ):
        vectors = [
            Int8Vectors(*pair) for pair in zip(codes.unbind(0), scales.unbind(0), strict=True)
        ]
        if not may_go_on:
            vectors.append(vectors[-1].without_tokens())
        pairs = zip(vectors[::2], vectors[1::2], strict=True)
        found.append([Int8KVLayer(*pair) for pair in pairs])
    return found


def _thin_batch(batch: KVBatch, parts: Sequence[Tensor]) -> list[KVLayers]:
    """What `thin_layer` makes of each passage, the last layer perhaps without values."""
    heads, _, size = parts[0].shape
    together = max(1, CHUNK_ELEMENTS // parts[0].numel())
    vectors: list[list[Vectors]] = [[] for _ in batch.sizes]
    for start in range(0, len(parts), together):
        some = torch.stack(list(parts[start : start + together]))
        made = LowBitVectors.quantize_passages(some, KEY_BITS, batch.tokens, batch.sizes)
        for own, few in zip(vectors, made, strict=True):
            own += few
    for own in vectors:
        own += [parts[0].new_empty(heads, 0, size)] * (len(own) % 2)
    return [list(map(ThinKVLayer, own[::2], own[1::2])) for own in vectors]


def thin_layer(layer: KVLayer, key_bits: int, value_bits: int) -> ThinKVLayer:
    """A layer in few bits, each channel with a range of its own over the passage."""
    keys, values = layer.keys, layer.values
    return ThinKVLayer(
        LowBitVectors.quantize(keys, key_bits, "channel"),
        LowBitVectors.quantize(values, value_bits, "channel") if values.shape[1] else values,
    )


def has_values(layer: StoredKVLayer) -> bool:
    """Whether the values of a layer were kept."""
    return layer.code.has_values if isinstance(layer, CodedKVLayer) else layer.values.shape[1] > 0


def layer_bytes(layer: StoredKVLayer) -> int:
    """The bytes of a layer in memory."""
    if isinstance(layer, ThinKVLayer | CodedKVLayer):
        return layer.nbytes
    return layer.keys.nbytes + layer.values.nbytes
