"""Vectors of units, kept: they come back whole or not at all, under a key of encoder and texts."""

from __future__ import annotations

import pytest
import torch

from tamis.probes.errors import BadModelFile
from tamis.probes.kv_cache.serialization import deserialize_vectors, serialize_vectors, vectors_key

TEXTS = ["The cat sat.", "Water is wet. \ud800", ""]
KEY = vectors_key("r1 mean", TEXTS)


def entry() -> tuple[torch.Tensor, bytes]:
    torch.manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.randn(3, 16), dim=-1)
    return vectors, serialize_vectors(KEY, vectors, "r1 mean")


def test_vectors_come_back_within_the_rounding_of_two_bytes():
    vectors, data = entry()
    back = deserialize_vectors(data, KEY)
    assert back.dtype == torch.float32
    assert (back - vectors).abs().max() < 2**-11
    assert torch.equal(back, vectors.half().float())


@pytest.mark.parametrize(
    ("encoder", "texts"),
    [
        ("r2 mean", TEXTS),
        ("r1 last", TEXTS),
        ("r1 mean", TEXTS[:2]),
        ("r1 mean", TEXTS[::-1]),
        ("r1 mean", ["The cat sat.Water is wet. \ud800", ""]),
        ("r1", ["mean", *TEXTS]),
    ],
)
def test_another_encoder_or_other_units_have_another_key(encoder, texts):
    assert vectors_key(encoder, texts) != KEY


def test_every_damaged_byte_is_noticed():
    _, data = entry()
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 1
        with pytest.raises(BadModelFile):
            deserialize_vectors(bytes(damaged), KEY)


def test_the_entry_of_another_passage_is_refused():
    _, data = entry()
    with pytest.raises(BadModelFile, match="another passage"):
        deserialize_vectors(data, vectors_key("r1 mean", ["Something else."]))
