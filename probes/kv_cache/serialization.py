"""Converting a cached passage to the bytes of a safetensors file, and back.

The file's header contains its SHA-256, which covers every byte of the file, the header included,
with the digits of the digest itself replaced by zeros.

Vectors of a passage's units are kept likewise, beside its keys and values: neither needs the
question. An entry holds those of all units of one passage, in 2 bytes a component. It is found by a
hash of the encoder and of the units' texts; where units end elsewhere, or another encoder reads,
none is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from tamis.probes.attention.coded_layer import CodedKVLayer
from tamis.probes.attention.kv_layers import KVLayers, SeparateKVLayer
from tamis.probes.attention.recorder import KVLayer
from tamis.probes.attention.rounding.int8 import Int8KVLayer, Int8Vectors
from tamis.probes.attention.rounding.low_bits import LowBitVectors
from tamis.probes.attention.thin_layer import ThinKVLayer, Vectors
from tamis.probes.errors import BadModelFile
from tamis.probes.kv_cache.codec import KVCodec, find_codec
from tamis.probes.kv_cache.storage import has_values

FORMAT = "tamis-passage-2"
"""2: without the values of the last layer where no reading uses them."""
_PARTS = ("keys", "values")
_CODED = "coded"
_ZEROS = "0" * 64
_MARK = b'"sha256":"'
_HEADER_BYTES = 8192  # the digest is in the header; foreign files are not searched further


def serialize(
    key: str, layers: KVLayers, metadata: Mapping[str, str], codec: KVCodec | None = None
) -> bytes:
    """The bytes of an entry's file.

    Args:
        codec: that coded the layers, where they are coded.
    """
    header = dict(metadata)
    coded = [layer for layer in layers if isinstance(layer, CodedKVLayer)]
    if coded and codec is not None:
        first = codec.layers.index(coded[0].code)
        header |= {"codec": codec.digest, "first": str(first), "layers": str(len(coded))}
        header["tokens"] = str(coded[0].tokens)
        tensors = {_CODED: torch.cat([layer.packed.flatten() for layer in coded]).cpu()}
    else:
        tensors = _to_tensors(layers)
    return seal(tensors, key, FORMAT, header)


def seal(tensors: Mapping[str, Tensor], key: str, form: str, header: Mapping[str, str]) -> bytes:
    """Tensors as a safetensors file whose header names the key and form, and holds a checksum."""
    header = {**header, "format": form, "key": key, "sha256": _ZEROS}
    data = bytearray(save(dict(tensors), header))
    at = data.index(_MARK, 0, _HEADER_BYTES) + len(_MARK)
    data[at : at + len(_ZEROS)] = hashlib.sha256(data).hexdigest().encode()
    return bytes(data)


def check_seal(data: bytes, key: str, form: str) -> None:
    """Checks every byte of what `seal` wrote.

    Raises:
        BadModelFile: it is not sealed, damaged, or of another key or form.
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
    if f'"format":"{form}"'.encode() not in data[:_HEADER_BYTES]:
        raise BadModelFile("it is whole, and of another version of tamis: delete it")


def deserialize(data: bytes, key: str) -> KVLayers:
    """An entry from the bytes of its file.

    Raises:
        BadModelFile: not an entry, damaged, or of another key. CodecMissing: it is whole, and by a
            codec that is not here.
    """
    check_seal(data, key, FORMAT)
    try:
        tensors = load(data)
        if _CODED not in tensors:
            return _to_layers(tensors)
        header = _header(data)
        first, tokens, layers = (int(header[name]) for name in ("first", "tokens", "layers"))
        return find_codec(header["codec"]).join(first, tensors[_CODED], tokens, layers)
    except (SafetensorError, KeyError, ValueError, IndexError, RuntimeError) as error:
        raise BadModelFile(f"it is whole, and no kept passage: {error}") from error


def _header(data: bytes) -> dict[str, str]:
    """The metadata in the header of a safetensors file, which begins with its length."""
    length = int.from_bytes(data[:8], "little")
    found: dict[str, str] = json.loads(data[8 : 8 + length])["__metadata__"]
    return found


def describe_file(file: Path) -> str:
    """Model, revision and storage of an entry according to its header, which is not checked."""
    try:
        with safe_open(file, "pt") as tensors:
            metadata = tensors.metadata() or {}
    except (OSError, SafetensorError):
        return "unreadable"
    return f"{metadata.get('model')} {metadata.get('revision')}, {metadata.get('storage')}"


def _to_tensors(layers: KVLayers) -> dict[str, Tensor]:
    """The keys of all layers, and the values of all or all but the last, as few tensors."""
    tensors: dict[str, Tensor] = {}
    for part in _PARTS:
        read = layers if part == "keys" or has_values(layers[-1]) else layers[:-1]
        vectors = [getattr(layer, part) for layer in read]
        like = getattr(layers[0], part)
        for name, values in _vector_tensors(vectors, like).items():
            tensors[f"{part}.{name}" if name else part] = values
    return tensors


def _vector_tensors(vectors: Sequence[Vectors], like: Vectors) -> dict[str, Tensor]:
    """The vectors of several layers; `like` says of which kind, since there may be none."""
    if isinstance(like, Tensor):
        return {"": _stack([one for one in vectors if isinstance(one, Tensor)], like)}
    if isinstance(like, Int8Vectors):
        names: tuple[str, ...] = ("codes", "scales")
    else:
        names = ("packed", "lows", "steps")
    found = {
        name: _stack([getattr(one, name) for one in vectors], getattr(like, name)) for name in names
    }
    if isinstance(like, LowBitVectors):
        found["shape"] = torch.tensor([like.bits, *like.shape], dtype=torch.int32)
    return found


def _to_layers(tensors: Mapping[str, Tensor]) -> KVLayers:
    keys, values = (_to_vectors(tensors, part) for part in _PARTS)
    if len(values) == len(keys):
        return [_layer(one, other) for one, other in zip(keys, values, strict=True)]
    layers = [_layer(one, other) for one, other in zip(keys, [*values, keys[-1]], strict=True)]
    return [*layers[:-1], _without_values(layers[-1])]


def _to_vectors(tensors: Mapping[str, Tensor], part: str) -> list[Vectors]:
    if part in tensors:
        return list(tensors[part])
    if f"{part}.codes" in tensors:
        pairs = zip(tensors[f"{part}.codes"], tensors[f"{part}.scales"], strict=True)
        return [Int8Vectors(codes, scales) for codes, scales in pairs]
    bits, *shape = tensors[f"{part}.shape"].tolist()
    parts = (tensors[f"{part}.{name}"] for name in ("packed", "lows", "steps"))
    return [
        LowBitVectors(packed, lows, steps, bits, torch.Size(shape))
        for packed, lows, steps in zip(*parts, strict=True)
    ]


def _layer(keys: Vectors, values: Vectors) -> SeparateKVLayer:
    if isinstance(keys, Tensor) and isinstance(values, Tensor):
        return KVLayer(keys, values)
    if isinstance(keys, Int8Vectors) and isinstance(values, Int8Vectors):
        return Int8KVLayer(keys, values)
    return ThinKVLayer(keys, values)


def _without_values(layer: SeparateKVLayer) -> SeparateKVLayer:
    """The last layer, whose values are not in the file."""
    empty = torch.empty(layer.keys.shape[0], 0, layer.keys.shape[2])
    if isinstance(layer, KVLayer):
        return KVLayer(layer.keys, empty.to(layer.keys.dtype))
    if isinstance(layer, Int8KVLayer):
        return Int8KVLayer(layer.keys, Int8Vectors.quantize(empty))
    return ThinKVLayer(layer.keys, empty)


def _stack(parts: list[Tensor], like: Tensor) -> Tensor:
    return torch.stack(parts).cpu() if parts else torch.empty(0, *like.shape, dtype=like.dtype)


VECTORS_FORMAT = "tamis-unit-vectors-1"
_VECTORS = "vectors"


def vectors_key(encoder: str, texts: Sequence[str]) -> str:
    """The key of the vectors of a passage's units: 64 hex digits.

    Args:
        encoder: what it is, weights and pooling: `Encoder.identity`.
    """
    line = json.dumps([VECTORS_FORMAT, encoder, *texts])  # any text, lone surrogates too, as ASCII
    return hashlib.sha256(line.encode()).hexdigest()


def serialize_vectors(key: str, vectors: Tensor, encoder: str) -> bytes:
    """The bytes of an entry: vectors of unit length, `[U, D]`."""
    return seal({_VECTORS: vectors.half().contiguous()}, key, VECTORS_FORMAT, {"encoder": encoder})


def deserialize_vectors(data: bytes, key: str) -> Tensor:
    """The vectors of an entry, `[U, D]` fp32.

    Raises:
        BadModelFile: not an entry, damaged, or of another key.
    """
    check_seal(data, key, VECTORS_FORMAT)
    try:
        return load(data)[_VECTORS].to(torch.float32)
    except (SafetensorError, KeyError) as error:
        raise BadModelFile(f"it is whole, and holds no vectors: {error}") from error
