"""Converting a cached passage to the bytes of a safetensors file, and back.

The file's header contains its SHA-256, which covers every byte of the file, the header included,
with the digits of the digest itself replaced by zeros.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from tamis.probes.attention.int8 import Int8KVLayer, Int8Vectors
from tamis.probes.attention.kv_layers import KVLayers
from tamis.probes.attention.recorder import KVLayer
from tamis.probes.errors import BadModelFile

FORMAT = "tamis-passage-1"
_PARTS = ("keys", "values")
_ZEROS = "0" * 64
_MARK = b'"sha256":"'
_HEADER_BYTES = 8192  # the digest is in the header; foreign files are not searched further


def serialize(key: str, layers: KVLayers, metadata: Mapping[str, str]) -> bytes:
    """The bytes of an entry's file."""
    header = {**metadata, "format": FORMAT, "key": key, "sha256": _ZEROS}
    data = bytearray(save(_to_tensors(layers), header))
    at = data.index(_MARK, 0, _HEADER_BYTES) + len(_MARK)
    data[at : at + len(_ZEROS)] = hashlib.sha256(data).hexdigest().encode()
    return bytes(data)


def deserialize(data: bytes, key: str) -> KVLayers:
    """An entry from the bytes of its file.

    Raises:
        BadModelFile: not an entry, damaged, or of another key.
    """
    at = data.find(_MARK, 0, _HEADER_BYTES) + len(_MARK)
    if at < len(_MARK):
        raise BadModelFile("it is no kept passage: there is no checksum in its header")
    digest = hashlib.sha256(data[:at])
    digest.update(_ZEROS.encode())
    digest.update(memoryview(data)[at + len(_ZEROS) :])
    if digest.hexdigest().encode() != data[at : at + len(_ZEROS)]:
        raise BadModelFile("it is damaged: its SHA-256 is not the one it was written with")
    if f'"key":"{key}"'.encode() not in data[:_HEADER_BYTES]:
        raise BadModelFile("it is whole, and another passage's: its key is not its name")
    try:
        return _to_layers(load(data))
    except (SafetensorError, KeyError, ValueError) as error:
        raise BadModelFile(f"it is whole, and no kept passage: {error}") from error


def describe_file(file: Path) -> str:
    """Model, revision and storage of an entry according to its header, which is not checked."""
    try:
        with safe_open(file, "pt") as tensors:
            metadata = tensors.metadata() or {}
    except (OSError, SafetensorError):
        return "unreadable"
    return f"{metadata.get('model')} {metadata.get('revision')}, {metadata.get('storage')}"


def _to_tensors(layers: KVLayers) -> dict[str, Tensor]:
    """The keys, and the values, of all layers as one tensor each: `[L, Hkv, N, d]`."""
    first = layers[0]
    if isinstance(first, KVLayer):
        return {part: _stack([getattr(one, part) for one in layers]) for part in _PARTS}
    return {
        f"{part}.{half}": _stack([getattr(getattr(one, part), half) for one in layers])
        for part in _PARTS
        for half in ("codes", "scales")
    }


def _to_layers(tensors: Mapping[str, Tensor]) -> KVLayers:
    if "keys" in tensors:
        return [KVLayer(*pair) for pair in zip(tensors["keys"], tensors["values"], strict=True)]
    halves = [tensors[f"{part}.{half}"] for part in _PARTS for half in ("codes", "scales")]
    return [
        Int8KVLayer(Int8Vectors(a, b), Int8Vectors(c, d))
        for a, b, c, d in zip(*halves, strict=True)
    ]


def _stack(parts: list[Tensor]) -> Tensor:
    return torch.stack(parts).cpu()
