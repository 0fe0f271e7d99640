"""Products in whole numbers: what they equal, how far they are from bf16, and who asks for them."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch
from tokenizers import Tokenizer
from torch.nn.functional import silu

from tamis.probes.attention import linear_kernels
from tamis.probes.attention.linear_kernels import Product, pack_weight
from tamis.probes.attention.rounding.int8 import Int8Vectors
from tamis.probes.errors import BadInput
from tamis.probes.kv_cache.cache import CachedReader, PassageCache, fingerprint
from tamis.probes.kv_cache.storage import STORAGES
from tamis.probes.model.forward import (
    BLOCK_TOKENS,
    Forward,
    Int8FeedForward,
    Int8Weight,
    RmsNorm,
    multiply,
)
from tamis.probes.model.proxy import Proxy
from tests.probes import tiny
from tests.probes.model.forward_kit import WANT, prompts
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture for every test here

D, F = 64, 96


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).bfloat16()


def products():
    shapes = {"out": (D, D), "gate": (F, D), "up": (F, D), "down": (D, F)}
    return {
        name: Product(draw(*shape, seed=n) / shape[1] ** 0.5, None)
        for n, (name, shape) in enumerate(shapes.items())
    }


def feed_forward(own):
    norm = RmsNorm(draw(D, seed=9).abs() + 0.5, 1e-5)
    return Int8FeedForward.quantize(own["out"], norm, own["gate"], own["up"], own["down"]), norm


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_rows_come_back_within_half_a_step_of_their_largest(dtype):
    states = draw(9, D).to(dtype) * torch.logspace(-6, 6, 9)[:, None].to(dtype)
    rows = Int8Vectors.quantize(states)
    assert rows.codes.dtype == torch.int8
    assert rows.codes.abs().amax(1).tolist() == [127] * 9
    largest = states.abs().amax(1, keepdim=True).float()
    assert ((rows.codes * rows.scales - states).abs() <= largest / 127 * 0.501).all()


def test_a_row_of_zeros_stays_one():
    rows = Int8Vectors.quantize(torch.zeros(2, D).bfloat16())
    weight = Int8Weight.quantize(Product(torch.zeros(3, D), None))
    assert torch.equal(multiply(rows, weight), torch.zeros(2, 3))


def test_products_are_exact_sums_of_whole_numbers():
    weight = Int8Weight.quantize(Product(draw(F, D), None))
    rows = Int8Vectors.quantize(draw(20, D, seed=1))
    sums = rows.codes.double() @ weight.codes.double()
    expected = sums * weight.scale.double() * rows.scales.double()
    torch.testing.assert_close(multiply(rows, weight).double(), expected)


def test_a_packed_weight_is_the_weight():
    rows = draw(F, D)
    packed = Int8Weight.quantize(Product(pack_weight(rows), None))
    assert torch.equal(packed.codes, Int8Weight.quantize(Product(rows, None)).codes)


def test_a_layer_is_within_a_few_percent_of_exact_ones():
    own = products()
    layer, norm = feed_forward(own)
    states, attended = draw(50, D, seed=20), draw(50, D, seed=21)
    exact = states.float() + attended.float() @ own["out"].weight.float().T
    normed = norm(exact.bfloat16()).float()
    gated = silu(normed @ own["gate"].weight.float().T) * (normed @ own["up"].weight.float().T)
    change = gated @ own["down"].weight.float().T
    found = states.clone()
    layer.add(found, attended)
    error = (found.float() - exact - change).norm() / (exact + change - states).norm()
    assert 0 < float(error) < 0.04


def test_blocks_do_not_show():
    layer, _ = feed_forward(products())
    tokens = 2 * BLOCK_TOKENS + 7
    states, attended = draw(tokens, D, seed=20), draw(tokens, D, seed=21)
    whole = states.clone()
    layer.add(whole, attended)
    for start in (0, BLOCK_TOKENS, 2 * BLOCK_TOKENS):
        some = slice(start, start + BLOCK_TOKENS)
        part = states[some].clone()
        layer.add(part, attended[some])
        torch.testing.assert_close(part, whole[some])


@pytest.mark.parametrize("bias", [{"mlp_bias": True}, {"attention_bias": True}])
def test_a_model_with_biases_behind_attention_stays_in_bf16(bias):
    layers = tiny.model("llama", dtype=torch.bfloat16, **bias).model
    assert Forward(layers, owned=False, in_int8=True).in_int8 is False
    assert Forward(tiny.model("llama", dtype=torch.bfloat16).model, False, True).in_int8 is True


@pytest.fixture
def folder(tmp_path):
    return tiny.save("llama", tmp_path)


def test_int8_is_asked_for_by_name_and_refused_where_it_would_be_wrong(folder, monkeypatch):
    for has_vnni in (True, False):
        monkeypatch.setattr(
            linear_kernels, "cpu_capabilities", lambda has=has_vnni: {"avx512_vnni": has}
        )
        auto = Proxy.from_folder(folder, device="cpu")
        assert auto.arithmetic == str(auto.dtype)
        if not has_vnni:
            with pytest.raises(BadInput, match="does not multiply it"):
                Proxy.from_folder(folder, dtype="int8", device="cpu")
            continue
        int8 = Proxy.from_folder(folder, dtype="int8", device="cpu")
        assert int8.arithmetic == "torch.bfloat16, int8 after attention"
        assert int8.dtype == torch.bfloat16


def test_readings_in_int8_are_near_exact_ones_and_kept_under_keys_of_their_own(folder):
    bf16 = Proxy.from_folder(folder, dtype="bf16", device="cpu")
    exact = Proxy.from_folder(folder, dtype="fp32", device="cpu")
    plain = Proxy.from_folder(folder, dtype="bf16", device="cpu")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    int8 = Proxy(plain.body, tokenizer, plain.card, plain.layout.template, in_int8=True)
    assert int8.arithmetic == "torch.bfloat16, int8 after attention"
    readings = [
        torch.cat([signal.weights.flatten() for signal in each.read(prompts(each), WANT)])
        for each in (int8, bf16, exact)
    ]
    assert not torch.equal(readings[0], readings[1])
    # of random weights drawn wide; the real proxy's:
    # lab/log/speed.md#2026-11-27-int8-after-attention
    assert float((readings[0] - readings[2]).norm() / readings[2].norm()) < 0.1
    for storage in STORAGES:
        keys = {fingerprint(each, storage).digest() for each in (int8, bf16, exact)}
        assert len(keys) == 3
    for one, other in permutations((int8, bf16), 2):
        cache = PassageCache()
        list(CachedReader(one, cache).read(prompts(one), WANT))
        cold = list(CachedReader(other, cache).read(prompts(other), WANT))
        assert not any(signal.cached_tokens for signal in cold)
        warm = list(CachedReader(other, cache).read(prompts(other), WANT))
        assert all(signal.cached_tokens for signal in warm)


def test_weights_that_are_changed_in_place_are_read_as_they_are_now(folder):
    """Integers, and a norm's adjusted weight, are copies: they must not outlive what they copy."""
    plain = Proxy.from_folder(folder, dtype="bf16", device="cpu")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def proxy():
        return Proxy(plain.body, tokenizer, plain.card, plain.layout.template, in_int8=True)

    def weights(of):
        return torch.cat([signal.weights.flatten() for signal in of.read(prompts(of), WANT)])

    used = proxy()
    layer = used.model.layers[0]
    for weight in (layer.mlp.down_proj.weight, layer.post_attention_layernorm.weight):
        before = weights(used)
        with torch.no_grad():
            weight.mul_(1.5)
        used.forget_weights()
        assert torch.equal(weights(used), weights(proxy()))
        assert not torch.equal(weights(used), before)
