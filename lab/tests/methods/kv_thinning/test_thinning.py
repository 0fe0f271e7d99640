"""What a plan keeps is asked as attention over columns; low-bit vectors are what they say."""

from __future__ import annotations

import math

import pytest
import torch

from tamis.probes.attention.recorder import KVLayer
from tamis.probes.attention.rounding.low_bits import (
    LowBitVectors,
    pack_codes,
    unpack_codes,
)
from tamis_lab.methods.kv_thinning.contract import EvictionPlan
from tamis_lab.methods.kv_thinning.thinning import thin_layers, unit_of_tokens
from tests.probes import tiny
from tests.probes.kv_cache.cache_kit import MEAN, WANT, assert_close, make_prompts, versioned_proxy
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture for every test here


def kept_passages(proxy, prompts):
    return [layers for _, layers in proxy.read_with_kv(prompts, MEAN)]


def whole_plan(layers):
    heads, tokens, _ = layers[0].keys.shape
    return EvictionPlan((torch.arange(tokens).expand(heads, -1),) * len(layers))


def asked(proxy, prompts, layers, want=WANT):
    return [signal.weights for signal in proxy.read_cached(prompts, layers, want)]


@pytest.mark.parametrize("kind", tiny.ARCHITECTURES)
@pytest.mark.parametrize("stand_in", [False, True])
def test_a_plan_that_keeps_everything_is_asked_exactly_as_the_whole_passage(kind, stand_in):
    proxy = versioned_proxy(kind)
    prompts = [p for p in make_prompts(proxy) if p.passage.ids]
    layers = kept_passages(proxy, prompts)
    spans = [(0, 3), (5, 9)] if stand_in else None
    thinned = [thin_layers(each, whole_plan(each), spans) for each in layers]
    assert_close(asked(proxy, prompts, thinned), asked(proxy, prompts, layers), 1e-6)


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_a_token_that_is_not_kept_gets_nothing_and_the_rest_is_the_softmax_without_it(kind):
    """The slow way: the recorded softmax with the column struck out, in the first layer."""
    proxy = versioned_proxy(kind)
    prompts = make_prompts(proxy)[:1]
    (layers,) = kept_passages(proxy, prompts)
    tokens = layers[0].keys.shape[1]
    ids = torch.tensor([t for t in range(tokens) if t % 3])
    plan = EvictionPlan((ids.expand(tiny.KV_HEADS, -1),) * len(layers))
    (thinned,) = asked(proxy, prompts, [thin_layers(layers, plan)])
    (whole,) = asked(proxy, prompts, [layers])
    lost = [t for t in range(tokens) if not t % 3]
    assert not thinned[..., lost].any()
    # in the first layer queries do not depend on the passage
    rest = 1 - whole[0][..., lost].sum(-1, keepdim=True)
    each_row = slice(0, prompts[0].question.rows)  # behind them, means and a repetition
    torch.testing.assert_close(
        thinned[0][:, each_row][..., ids], (whole[0] / rest)[:, each_row][..., ids]
    )


def test_stand_ins_of_equal_keys_change_nothing_and_share_equally():
    proxy = versioned_proxy()
    prompts = make_prompts(proxy)[:1]
    (layers,) = kept_passages(proxy, prompts)
    tokens = layers[0].keys.shape[1]

    def repeat_first(part):
        return part[:, :1].expand(-1, tokens, -1)

    alike = [KVLayer(repeat_first(one.keys), repeat_first(one.values)) for one in layers]
    plan = EvictionPlan((torch.tensor([[0], [2]]),) * len(layers))
    thinned = thin_layers(alike, plan, [(0, tokens // 2), (tokens // 2, tokens)])
    assert_close(asked(proxy, prompts, [thinned]), asked(proxy, prompts, [alike]), 1e-5)


def test_a_stand_in_never_draws_more_than_what_it_stands_for():
    draw = torch.Generator().manual_seed(0)
    keys, values = (torch.randn(2, 30, 8, generator=draw) for _ in range(2))
    plan = EvictionPlan((torch.tensor([[0, 7, 9], [3, 4, -1]]),))
    (layer,) = thin_layers([KVLayer(keys, values)], plan, [(0, 10), (12, 30)])
    query = torch.randn(2, 1, 8, generator=draw) * 3
    logits = query @ keys.transpose(1, 2)
    column = (query @ layer.keys.transpose(1, 2))[:, 0] + layer.placement.bias
    groups = unit_of_tokens([(0, 10), (12, 30)], 30)
    assert groups.tolist() == [0] * 10 + [1] * 2 + [2] * 18
    for head in range(2):
        for unit in range(3):
            out = [
                t for t in range(30) if groups[t] == unit and t not in plan.ids[0][head].tolist()
            ]
            bound = logits[head, 0, out].logsumexp(-1)
            assert column[head, 3 + unit] <= bound + 1e-5


def test_padding_draws_nothing_and_weights_of_columns_come_back_whole():
    draw = torch.Generator().manual_seed(1)
    keys, values = (torch.randn(2, 12, 8, generator=draw) for _ in range(2))
    plan = EvictionPlan((torch.tensor([[0, 7, 9], [3, -1, -1]]),))
    (layer,) = thin_layers([KVLayer(keys, values)], plan, [(0, 12)])
    assert layer.placement.bias[1, 1:3].isneginf().all()
    weights = torch.randn(4, 2, 4, generator=draw).exp()
    weights = weights.masked_fill(
        layer.placement.bias.isneginf().repeat_interleave(2, 0)[:, None], 0
    )
    spread = layer.placement.spread(weights)
    assert spread.shape == (4, 2, 12)
    torch.testing.assert_close(spread.sum(-1), weights.sum(-1))


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("components", [0, 1, 7, 8, 129])
def test_codes_are_packed_without_gaps_and_come_back(bits, components):
    draw = torch.Generator().manual_seed(bits)
    codes = torch.randint(2**bits, (3, components), generator=draw).to(torch.uint8)
    packed = pack_codes(codes, bits)
    planes = [1 << place for place in range(4) if bits >> place & 1]
    assert packed.shape == (3, sum(-(-components * plane // 8) for plane in planes))
    assert torch.equal(unpack_codes(packed, bits, components), codes)


def test_each_bit_more_divides_the_error_by_three_and_a_half_to_four():
    """Mean squared errors of normal components, uniform levels: Max (1960), table 2."""
    exact = torch.randn(4, 4000, 16, generator=torch.Generator().manual_seed(0)) * 3 + 5
    for bits, error in {1: 0.3634, 2: 0.1188, 3: 0.0374, 4: 0.0115}.items():
        back = torch.empty_like(exact)
        LowBitVectors.quantize(exact, bits, "channel").dequantize_into(back)
        assert float((back - exact).square().mean()) / 9 == pytest.approx(error, rel=0.04)


@pytest.mark.parametrize("axis", ["channel", "token"])
@pytest.mark.parametrize("tokens", [0, 1, 2])
def test_few_and_constant_vectors_are_kept(axis, tokens):
    exact = torch.full((2, tokens, 16), 0.75)
    back = torch.empty_like(exact)
    LowBitVectors.quantize(exact, 2, axis).dequantize_into(back)
    torch.testing.assert_close(back, exact, atol=1e-3, rtol=0)
    assert math.prod(back.shape) == 32 * tokens
