"""Vectors of the units of a passage, kept beside its keys and values: neither needs the question.

An entry holds those of all units of one passage, in 2 bytes a component. It is found by a hash of
the encoder and of the units' texts; where units end elsewhere, or another encoder reads, none is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from tamis.probes.errors import BadModelFile
from tamis.probes.kv_cache.serialization import check_seal, seal

FORMAT = "tamis-unit-vectors-1"
_NAME = "vectors"


def vectors_key(encoder: str, texts: Sequence[str]) -> str:
    """The key of the vectors of a passage's units: 64 hex digits.

    Args:
        encoder: what it is, weights and pooling: `Encoder.identity`.
    """
    line = json.dumps([FORMAT, encoder, *texts])  # any text, lone surrogates too, as ASCII
    return hashlib.sha256(line.encode()).hexdigest()


def serialize_vectors(key: str, vectors: Tensor, encoder: str) -> bytes:
    """The bytes of an entry: vectors of unit length, `[U, D]`."""
    return seal({_NAME: vectors.half().contiguous()}, key, FORMAT, {"encoder": encoder})


def deserialize_vectors(data: bytes, key: str) -> Tensor:
    """The vectors of an entry, `[U, D]` fp32.

    Raises:
        BadModelFile: not an entry, damaged, or of another key.
    """
    check_seal(data, key, FORMAT)
    try:
        return load(data)[_NAME].to(torch.float32)
    except (SafetensorError, KeyError) as error:
        raise BadModelFile(f"it is whole, and holds no vectors: {error}") from error
