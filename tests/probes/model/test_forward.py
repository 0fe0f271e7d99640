"""Our pass over decoders of Llama's kind, against transformers over the same weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tamis.probes.attention.linear_kernels import Product
from tamis.probes.model.forward import RmsNorm, Rotation, is_supported, swiglu
from tamis.probes.model.proxy import Proxy
from tamis.probes.prompt import TEMPLATES
from tamis.probes.signal import Want
from tests.probes import tiny
from tests.probes.model.forward_kit import OURS, WANT, prompts, readings, run_by_transformers
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture for every test here

FP32 = 1e-5


def assert_close(ours: Proxy, theirs: Proxy, within: float) -> None:
    for one, other in zip(readings(ours), readings(theirs), strict=True):
        torch.testing.assert_close(one, other, atol=within, rtol=within)


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        *((kind, {}) for kind in OURS),
        ("llama", {"mlp_bias": True, "attention_bias": True}),
        ("llama", {"num_key_value_heads": tiny.HEADS}),
        ("llama", {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4}}),
        (
            "qwen2",
            {"use_sliding_window": True, "sliding_window": tiny.WINDOW, "max_window_layers": 2},
        ),
    ],
)
def test_the_forward_pass_equals_transformers_in_fp32(kind: str, config: dict[str, Any]) -> None:
    model = tiny.model(kind, **config)
    for name, weight in model.named_parameters():
        if "norm" in name or "bias" in name:  # fresh models have ones and zeros there
            nn.init.normal_(weight, 1.0 if "norm" in name else 0.0, 0.2)
    proxy = Proxy.from_model(model, tiny.tokenizer(), template=TEMPLATES["chatml"])
    assert is_supported(proxy.model)
    assert_close(proxy, run_by_transformers(proxy), FP32)


class LinearSubclass(nn.Linear):
    """A linear layer that is not torch's own: an adapter, say."""


def test_what_is_not_plainly_of_the_kind_is_left_to_transformers() -> None:
    assert all(is_supported(tiny.proxy(kind).model) for kind in OURS)
    assert not is_supported(tiny.proxy("gemma3").model)
    adapted, other, hooked = (tiny.proxy().model for _ in range(3))
    adapted.layers[1].mlp.up_proj = LinearSubclass(64, 96, bias=False)
    other.config.hidden_act = "gelu"
    handle = hooked.layers[2].mlp.register_forward_pre_hook(lambda *_: None)
    assert not any(map(is_supported, (adapted, other, hooked)))
    handle.remove()
    assert is_supported(hooked)


def test_a_model_whose_weights_were_replaced_is_read_with_the_new_ones() -> None:
    proxy = tiny.proxy()
    list(proxy.read(prompts(proxy), WANT))
    layer = proxy.model.layers[0].self_attn
    layer.q_proj.weight = nn.Parameter(layer.q_proj.weight * 1.5)
    proxy.forget_weights()  # the template's opening is kept with the old ones
    assert_close(proxy, run_by_transformers(proxy), FP32)
    layer.k_proj = nn.Linear(64, 32, bias=False)
    proxy.forget_weights()
    assert_close(proxy, run_by_transformers(proxy), FP32)


def test_a_weight_that_was_changed_in_place_is_read_as_it_is_now() -> None:
    proxy = tiny.proxy()
    proxy.opening_kv()
    for part in (proxy.model.layers[0].mlp.down_proj, proxy.model.layers[0].input_layernorm):
        with torch.no_grad():
            part.weight.mul_(1.5)
    proxy.forget_weights()
    assert_close(proxy, run_by_transformers(proxy), FP32)


def test_nothing_runs_behind_the_attention_of_the_last_layer_wanted() -> None:
    proxy, want = tiny.proxy(), Want((0, 2))
    expected = [signal.weights for signal in proxy.read(prompts(proxy), want)]
    layers = proxy.model.layers
    with torch.no_grad():
        for part in (layers[2].self_attn.o_proj, layers[2].mlp.down_proj, *layers[3].children()):
            for weight in part.parameters():
                weight.fill_(torch.nan)
    found = [signal.weights for signal in proxy.read(prompts(proxy), want)]
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    ours = proxy._runner.own_forward()
    assert ours is not None
    for layer in ours.layers:
        object.__setattr__(layer, "down", _Counting(layer.down))
    list(proxy.read(prompts(proxy), want))
    assert [layer.down.calls > 0 for layer in ours.layers] == [True, True, False, False]  # type: ignore[attr-defined]


class _Counting:
    """A product that counts how often it was taken."""

    def __init__(self, product: Product) -> None:
        self.product, self.calls = product, 0

    def __call__(self, states: Tensor) -> Tensor:
        self.calls += 1
        return self.product(states)


@pytest.mark.parametrize("size", [1e-6, 1e-3, 0.1, 1.0, 300.0])
@pytest.mark.parametrize("width", [64, 96, 576])
def test_the_fast_norm_is_the_norm_even_of_rows_that_are_almost_zero(
    size: float, width: int
) -> None:
    draw = torch.Generator().manual_seed(3)
    states = torch.randn(40, width, generator=draw) * size
    states[3] = 0
    weight = torch.rand(width, generator=draw) + 0.5
    ours = RmsNorm(weight.bfloat16(), 1e-5)(states.bfloat16())
    exact = states.bfloat16().float()
    exact = exact * torch.rsqrt(exact.square().mean(-1, keepdim=True) + 1e-5)
    exact = exact * weight.bfloat16().float()
    torch.testing.assert_close(ours.float(), exact, atol=1e-6, rtol=2**-6.5)
    # rows without a zero among them take the fast way
    ours = RmsNorm(weight.bfloat16(), 1e-5)(states[4:].bfloat16())
    torch.testing.assert_close(ours.float(), exact[4:], atol=1e-6, rtol=2**-6.5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gate_and_rotation_are_their_formulas(dtype: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(5)
    states = torch.randn(9, 32, generator=draw).to(dtype)
    gate, up = (torch.randn(48, 32, generator=draw).to(dtype) * 0.2 for _ in range(2))
    exact = nn.functional.silu(states.float() @ gate.float().T) * (states.float() @ up.float().T)
    within = 1e-5 if dtype is torch.float32 else 2e-2
    found = swiglu(states, Product(gate, None), Product(up, None))
    torch.testing.assert_close(found.float(), exact, atol=within, rtol=within)

    angles = torch.rand(9, 8, generator=draw).repeat(1, 2).to(dtype)
    heads = states.view(9, 2, 16)
    out = torch.empty_like(heads)
    Rotation.from_angles(angles.cos(), angles.sin())(heads, out)
    a, b = heads.float().chunk(2, -1)
    turned = heads.float() * angles.cos()[:, None].float()
    turned += torch.cat((-b, a), -1) * angles.sin()[:, None].float()
    torch.testing.assert_close(out.float(), turned, atol=within, rtol=within)
