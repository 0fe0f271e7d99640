"""Our pass over decoders of Llama's kind, against transformers over the same weights."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tamis.probes import forward_linear
from tamis.probes.capture import Want
from tamis.probes.forward import known
from tamis.probes.forward_linear import Packed, Product, fused, pack, unpack
from tamis.probes.forward_parts import RmsNorm, Rotation, gated
from tamis.probes.prompt import TEMPLATES, Prompt
from tamis.probes.proxy import Proxy
from tests.probes import tiny
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture for every test here

OURS = ("llama", "qwen2", "qwen3")
FP32 = 1e-5
# bf16 rounds states to 8 bits once more or once less in each of four layers
BF16 = 2.5e-2
WANT = Want((0, 1, 3), ("question", "question_mean", "last"))

blocks = pytest.mark.skipif(
    not fused(torch.empty(1, dtype=torch.bfloat16)), reason="no bf16 blocks in this processor"
)


def prompts(proxy: Proxy) -> list[Prompt]:
    asked = (("Cats sit. " * 3, "Who?"), ("It rains in the hills. " * 20, "Where?"), ("", "Why?"))
    # longer than the 512 keys that attention takes at once
    asked += (("Emus hop over the low hills, very far. " * 18, "Who hops over the hills?"),)
    return [
        Prompt(proxy.layout.read(text, [(0, len(text))], "On animals"), proxy.layout.ask(question))
        for text, question in asked
    ]


def by_transformers(proxy: Proxy) -> Proxy:
    """A proxy over a copy of the model that somebody hooks into: transformers runs it."""
    twin = Proxy.from_model(deepcopy(proxy.model), tiny.tokenizer(), template=TEMPLATES["chatml"])
    twin.model.layers[0].register_forward_hook(lambda *_: None)
    assert not known(twin.model)
    return twin


def readings(proxy: Proxy) -> Iterator[Tensor]:
    """Weights of every way to read: cold, keeping, kept."""
    asked = prompts(proxy)
    kept = list(proxy.keep(asked, WANT))
    yield from (signal.weights for signal in proxy.read(asked, WANT))
    for signal, states in proxy.read_keeping(asked, WANT):
        yield signal.weights
        yield from (part for layer in states for part in (layer.keys, layer.values))
    yield from (signal.weights for signal in proxy.ask(asked, kept, WANT))


def close(ours: Proxy, theirs: Proxy, within: float) -> None:
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
def test_a_pass_of_ours_equals_transformers_in_fp32(kind: str, config: dict[str, Any]) -> None:
    model = tiny.model(kind, **config)
    for name, weight in model.named_parameters():
        if "norm" in name or "bias" in name:  # fresh models have ones and zeros there
            nn.init.normal_(weight, 1.0 if "norm" in name else 0.0, 0.2)
    proxy = Proxy.from_model(model, tiny.tokenizer(), template=TEMPLATES["chatml"])
    assert known(proxy.model)
    close(proxy, by_transformers(proxy), FP32)


def off(ours: Proxy, exact: Proxy) -> float:
    """How far all readings are from exact ones: the root of the sum of squares."""
    pairs = zip(readings(ours), readings(exact), strict=True)
    return float(sum((a.double() - b.double()).square().sum() for a, b in pairs)) ** 0.5


@pytest.mark.parametrize("kind", OURS)
def test_a_packed_model_is_no_further_from_fp32_than_transformers_is(
    kind: str, tmp_path: Path
) -> None:
    folder = tiny.save(kind, tmp_path)
    packed, rows = (Proxy.from_folder(folder, dtype="bf16", device="cpu") for _ in range(2))
    theirs = by_transformers(rows)
    exact = by_transformers(rows)
    exact.model.float()
    assert off(packed, exact) <= 1.1 * off(theirs, exact)


@pytest.mark.parametrize("kind", OURS)
def test_a_packed_model_still_runs_in_transformers_and_has_its_weights(
    kind: str, tmp_path: Path
) -> None:
    packed = Proxy.from_folder(tiny.save(kind, tmp_path), dtype="bf16", device="cpu")
    ids = torch.tensor([tiny.ids(30)])
    weights = {name: weight.clone() for name, weight in packed.model.state_dict().items()}
    with torch.inference_mode():
        before = packed.model(input_ids=ids).last_hidden_state
        packed.head()
        after = packed.model(input_ids=ids).last_hidden_state
    assert torch.equal(before, after)
    again = packed.model.state_dict()
    assert weights.keys() == again.keys()
    assert all(torch.equal(weights[name], again[name]) for name in weights)


@blocks
def test_packed_weights_are_held_once(tmp_path: Path) -> None:
    proxy = Proxy.from_folder(tiny.save("llama", tmp_path), dtype="bf16", device="cpu")
    proxy.head()
    assert not any(isinstance(module, nn.Linear) for module in proxy.model.layers.modules())
    held = [name for name, _ in proxy.model.layers.named_parameters()]
    assert held, "the norms"
    assert all("norm" in name for name in held)


@blocks
def test_an_unpacked_model_has_linear_layers_that_can_be_changed(tmp_path: Path) -> None:
    folder = tiny.save("qwen2", tmp_path)
    proxy, plain = (Proxy.from_folder(folder, dtype="bf16", device="cpu") for _ in range(2))
    before = [signal.weights for signal in proxy.read(prompts(proxy), WANT)]
    unpack(proxy.model)
    ours, theirs = proxy.model.state_dict(), plain.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    for one, other in zip(before, proxy.read(prompts(proxy), WANT), strict=True):
        assert torch.equal(one, other.weights)
    unpack(proxy.model)
    for p in (proxy, plain):
        with torch.no_grad():
            p.model.layers[1].self_attn.q_proj.weight.mul_(1.5)
        p._head = None
    changed, expected = (list(p.read(prompts(p), WANT)) for p in (proxy, plain))
    assert all(torch.equal(a.weights, b.weights) for a, b in zip(changed, expected, strict=True))
    assert not torch.equal(changed[0].weights, before[0])


def test_a_model_that_somebody_else_holds_keeps_its_layers() -> None:
    model = tiny.model("llama", dtype=torch.bfloat16)
    before = list(model.modules())
    list(readings(Proxy.from_model(model, tiny.tokenizer(), template=TEMPLATES["chatml"])))
    assert list(model.modules()) == before


class Own(nn.Linear):
    """A linear layer that is not torch's own: an adapter, say."""


def test_what_is_not_plainly_of_the_kind_is_left_to_transformers() -> None:
    assert all(known(tiny.proxy(kind).model) for kind in OURS)
    assert not known(tiny.proxy("gemma3").model)
    adapted, other, hooked = (tiny.proxy().model for _ in range(3))
    adapted.layers[1].mlp.up_proj = Own(64, 96, bias=False)
    other.config.hidden_act = "gelu"
    handle = hooked.layers[2].mlp.register_forward_pre_hook(lambda *_: None)
    assert not any(map(known, (adapted, other, hooked)))
    handle.remove()
    assert known(hooked)


def test_a_model_whose_weights_were_replaced_is_read_with_the_new_ones() -> None:
    proxy = tiny.proxy()
    list(proxy.read(prompts(proxy), WANT))
    layer = proxy.model.layers[0].self_attn
    layer.q_proj.weight = nn.Parameter(layer.q_proj.weight * 1.5)
    proxy._head = None  # the template's opening is kept with the old ones
    close(proxy, by_transformers(proxy), FP32)
    layer.k_proj = nn.Linear(64, 32, bias=False)
    proxy._head = None
    close(proxy, by_transformers(proxy), FP32)


def test_a_weight_that_was_changed_in_place_is_read_as_it_is_now() -> None:
    proxy = tiny.proxy()
    proxy.head()
    for part in (proxy.model.layers[0].mlp.down_proj, proxy.model.layers[0].input_layernorm):
        with torch.no_grad():
            part.weight.mul_(1.5)
    proxy._head = None
    close(proxy, by_transformers(proxy), FP32)


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
    ours = proxy._passes.own()
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
    found = gated(states, Product(gate, None), Product(up, None))
    torch.testing.assert_close(found.float(), exact, atol=within, rtol=within)

    angles = torch.rand(9, 8, generator=draw).repeat(1, 2).to(dtype)
    heads = states.view(9, 2, 16)
    out = torch.empty_like(heads)
    Rotation.by(angles.cos(), angles.sin())(heads, out)
    a, b = heads.float().chunk(2, -1)
    turned = heads.float() * angles.cos()[:, None].float()
    turned += torch.cat((-b, a), -1) * angles.sin()[:, None].float()
    torch.testing.assert_close(out.float(), turned, atol=within, rtol=within)


@blocks
def test_a_packed_layer_is_its_rows_where_gradients_are_kept() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(32, 48), nn.Linear(32, 16)

    pair = Pair().bfloat16()
    rows = {name: getattr(pair, name).weight.detach().clone() for name in "ab"}
    biases = {name: getattr(pair, name).bias.detach().clone() for name in "ab"}
    pack(pair, ("a", "b"))
    states = torch.randn(5, 32).bfloat16().requires_grad_()
    for name in "ab":
        layer = getattr(pair, name)
        assert isinstance(layer, Packed)
        assert torch.equal(layer.weight, rows[name])
        expected = nn.functional.linear(states, rows[name], biases[name])
        assert torch.equal(layer(states), expected)
        (grad,) = torch.autograd.grad(layer(states).sum(), states)
        assert torch.equal(grad, torch.autograd.grad(expected.sum(), states)[0])


def test_without_blocks_bf16_runs_by_rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tiny.save("llama", tmp_path)
    monkeypatch.setattr(forward_linear, "_ABLE", False)
    proxy = Proxy.from_folder(folder, dtype="bf16", device="cpu")
    rows = [signal.weights for signal in proxy.read(prompts(proxy), WANT)]
    assert all(type(layer.mlp.up_proj) is nn.Linear for layer in proxy.model.layers)
    monkeypatch.undo()
    again = Proxy.from_folder(folder, dtype="bf16", device="cpu")
    for one, other in zip(rows, again.read(prompts(again), WANT), strict=True):
        torch.testing.assert_close(one, other.weights, atol=BF16, rtol=BF16)
