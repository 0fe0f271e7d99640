"""Coded keys and values: what comes back, in how many bytes, whatever is decoded beside it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tamis.probes.attention import coded_layer
from tamis.probes.attention.coded_layer import LayerCode, PassageRotation, decode_layers
from tamis.probes.attention.recorder import KVLayer
from tamis.probes.attention.rope import remove_rotation
from tests.probes import tiny

HEADS, SIZE = 2, 16
RATES = 1e4 ** -(torch.arange(SIZE // 2) / (SIZE // 2))


def make_code(bits, has_values=True, seed=0, step=None):
    """A code of random directions; of ranges alike or, as fitted ones nearly are, steps alike."""
    channels = HEADS * SIZE * (2 if has_values else 1)
    generator = torch.Generator().manual_seed(seed)
    synthesis = torch.eye(channels)
    synthesis += 0.3 * torch.randn(channels, channels, generator=generator) / channels**0.5
    analysis = torch.linalg.inv(synthesis)
    per_run = torch.tensor(bits).repeat_interleave(8)
    kept = len(per_run)
    lows, steps = torch.full((kept,), -8.0), 16.0 / (2.0**per_run - 1)
    if step is not None:
        lows, steps = -step * (2.0**per_run - 1) / 2, torch.full((kept,), step)
    mean = torch.randn(channels, generator=generator)
    return LayerCode(
        *(
            mean,
            analysis[:, :kept],
            synthesis[:kept],
            lows,
            steps,
            per_run,
            PassageRotation(RATES),
            HEADS,
            SIZE,
        ),
        has_values=has_values,
    )


def make_layer(tokens, seed=1, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    keys, values = torch.randn(2, HEADS, tokens, SIZE, generator=generator).to(dtype)
    return KVLayer(keys, values)


def decode_slowly(code, layer):
    """The definition, one token and one direction at a time, in fp64."""
    positions = torch.arange(layer.keys.shape[1]).double()
    turns = torch.polar(torch.ones(1).double(), positions[:, None] * code.rotation.rates.double())
    pairs = torch.complex(*(part.double() for part in layer.keys.chunk(2, -1)))
    straight = torch.view_as_real(pairs * turns.conj()).movedim(-1, -2).flatten(-2)
    parts = [straight, layer.values.double()] if code.has_values else [straight]
    found = []
    for t in range(len(positions)):
        vector = torch.cat([part[:, t].flatten() for part in parts])
        along = (vector - code.mean.double()) @ code.analysis.double()
        back = code.mean.double().clone()
        for k, bits in enumerate(code.bits.tolist()):
            level = round(float((along[k] - code.lows[k]) / code.steps[k]))
            level = min(max(level, 0), 2**bits - 1)
            back += (code.lows[k] + level * code.steps[k]).double() * code.synthesis[k].double()
        found.append(back)
    vectors = torch.stack(found).view(len(found), -1, SIZE)
    keys = torch.complex(*vectors[:, :HEADS].transpose(0, 1).chunk(2, -1)) * turns
    keys = torch.view_as_real(keys).movedim(-1, -2).flatten(-2)
    return keys.float(), vectors[:, HEADS:].transpose(0, 1).float()


@pytest.mark.parametrize("has_values", [True, False])
@pytest.mark.parametrize("bits", [[6, 5, 4, 3, 2, 1, 1], [7, 2], [1], [7] * 8])
def test_decoded_vectors_are_those_of_the_definition(bits, has_values):
    code = make_code(bits[: 8 if has_values else 4], has_values)
    layer = make_layer(9)
    (found,) = decode_layers([code.encode(layer)], torch.float32)
    keys, values = decode_slowly(code, layer)
    torch.testing.assert_close(found.keys, keys, atol=1e-4, rtol=1e-4)
    if has_values:
        torch.testing.assert_close(found.values, values, atol=1e-4, rtol=1e-4)
    else:
        assert found.values.shape == (HEADS, 0, SIZE)


@pytest.mark.parametrize(("bits", "bytes_"), [([6, 5, 4, 3, 2, 1, 1], 22), ([1], 1), ([7] * 8, 56)])
def test_a_token_takes_a_byte_for_eight_bits(bits, bytes_):
    code = make_code(bits)
    coded = code.encode(make_layer(5))
    assert code.token_bytes == bytes_ == sum(bits)
    assert coded.packed.shape == (5, bytes_)
    assert coded.nbytes == 5 * bytes_
    assert coded.tokens == 5


def test_seven_bits_of_every_direction_are_nearly_exact():
    layer = make_layer(40)
    (found,) = decode_layers([make_code([7] * 8).encode(layer)], torch.float32)
    assert (found.keys - layer.keys).abs().max() < 0.2
    assert (found.values - layer.values).abs().max() < 0.2


def test_more_bits_are_never_further_off():
    layer, errors = make_layer(200), []
    for bits in range(1, 8):
        (found,) = decode_layers([make_code([bits] * 8).encode(layer)], torch.float32)
        errors.append(float((found.values - layer.values).square().mean()))
    assert errors == sorted(errors, reverse=True)


def test_what_was_decoded_codes_to_the_same_bytes():
    code = make_code([5, 4, 3, 2])
    coded = code.encode(make_layer(30))
    (once,) = decode_layers([coded], torch.float32)
    assert torch.equal(code.encode(once).packed, coded.packed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_passages_decoded_together_are_as_decoded_apart(dtype):
    one, other = make_code([4, 3, 1]), make_code([2, 2], seed=5)
    coded = [one.encode(make_layer(n, seed=n)) for n in (7, 1, 30)] + [other.encode(make_layer(4))]
    together = decode_layers(coded, dtype)
    for layer, each in zip(together, coded, strict=True):
        (apart,) = decode_layers([each], dtype)
        assert layer.keys.dtype == layer.values.dtype == dtype
        torch.testing.assert_close(layer.keys, apart.keys)
        torch.testing.assert_close(layer.values, apart.values)


def test_products_in_whole_numbers_are_within_a_few_percent_of_exact_ones():
    code = make_code([6, 6, 5, 4, 3, 3, 2, 1], step=0.2)
    coded = code.encode(make_layer(100))
    (exact,), (whole,) = (decode_layers([coded], d) for d in (torch.float32, torch.bfloat16))
    for name in ("keys", "values"):
        a, b = getattr(exact, name), getattr(whole, name).float()
        assert float((a - b).norm() / a.norm()) < 0.03


@pytest.mark.parametrize("unpacked", [1, 16 << 20])
def test_layers_of_a_batch_are_coded_and_decoded_as_one_by_one(unpacked, monkeypatch):
    monkeypatch.setattr(coded_layer, "UNPACKED", unpacked)
    codes = [make_code([4, 3, 1]), make_code([2, 2], seed=5), make_code([7, 1], False)]
    codes = [replace(code, rotation=codes[0].rotation) for code in codes]
    sizes, layers = [7, 1, 30], [make_layer(38, seed=n) for n in range(3)]
    passages = [
        [
            KVLayer(k, v)
            for k, v in zip(*(torch.split(part, sizes, 1) for part in pair), strict=True)
        ]
        for pair in ((layer.keys, layer.values) for layer in layers)
    ]
    apart = [[code.encode(one) for one in own] for code, own in zip(codes, passages, strict=True)]
    parts = [part for layer in layers for part in (layer.keys, layer.values)]
    together = coded_layer.encode_layers(codes, parts, sizes)
    expected = torch.cat([torch.cat([one.packed for one in own]) for own in apart], 1)
    assert (together != expected).float().mean() < 0.01  # a product may round otherwise
    places = torch.cat([torch.arange(n) for n in sizes])
    packed = [[one.packed for one in own] for own in apart]
    joined = coded_layer.JoinedCodes(codes, packed, places)
    for layer in (0, 1, 2, 0):
        keys, values = joined.decode(layer, torch.float32)
        found = decode_layers(apart[layer], torch.float32)
        torch.testing.assert_close(keys, torch.cat([one.keys for one in found], 1))
        if layer < 2:
            torch.testing.assert_close(values, torch.cat([one.values for one in found], 1))


def test_an_empty_passage_has_no_bytes():
    code = make_code([2, 1])
    coded = code.encode(KVLayer(torch.zeros(HEADS, 0, SIZE), torch.zeros(HEADS, 0, SIZE)))
    assert coded.packed.shape == (0, 3)
    (found,) = decode_layers([coded], torch.float32)
    assert found.keys.shape == (HEADS, 0, SIZE)


def test_places_are_rotated_as_the_model_rotates_positions():
    body = tiny.model("llama").model
    rotation = PassageRotation(body.rotary_emb.inv_freq.float())
    size = 2 * len(rotation.rates)
    keys, lengths = torch.randn(HEADS, 640, size), [600, 40]
    positions = torch.cat([torch.arange(n) for n in lengths])
    ours = rotation.remove(keys.transpose(0, 1), lengths)
    theirs = remove_rotation(body, 0, keys, positions)
    torch.testing.assert_close(ours.transpose(0, 1), theirs, atol=1e-4, rtol=1e-4)
    back = rotation.apply(ours, lengths).transpose(0, 1)
    torch.testing.assert_close(back, keys, atol=1e-4, rtol=1e-4)
    # another order of lengths is not taken for the last one
    other = rotation.apply(ours, [40, 600]).transpose(0, 1)
    assert not torch.allclose(other, keys, atol=1e-2)


def test_angles_of_many_batches_take_bounded_memory(monkeypatch):
    monkeypatch.setattr(coded_layer, "ANGLE_BYTES", 40_000)
    rotation = PassageRotation(RATES)
    first = make_layer(300).keys.transpose(0, 1)
    turned = rotation.apply(first, [300])
    for n in range(1, 60):
        layer = make_layer(10 * n).keys.transpose(0, 1)
        back = rotation.remove(rotation.apply(layer, [10 * n]), [10 * n])
        torch.testing.assert_close(back, layer, atol=1e-5, rtol=0)
        assert rotation.nbytes <= 40_000 or len(rotation._angles) == 1
    assert torch.equal(rotation.apply(first, [300]), turned)
