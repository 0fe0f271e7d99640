"""Adapters while they are learnt: the same model at first, exact gradients, nothing else moves."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tamis.probes.errors import BadInput, ProxyUnsupported
from tamis_lab.train.lora.lowrank import FrozenLinear, attach, projections
from tamis_lab.train.lora.training import read_with_grad
from tests.probes import tiny
from tests.probes.hub.test_adapters import WANT, prompts
from tests.probes.tiny import one_thread  # noqa: F401


@pytest.mark.parametrize("kind", tiny.ARCHITECTURES)
def test_a_reading_with_a_graph_is_the_reading(kind):
    proxy = tiny.proxy(kind)
    expected = list(proxy.read(prompts(), WANT))
    attach(proxy.model, range(1, 4), rank=2)
    for mine, theirs in zip(read_with_grad(proxy, prompts(), WANT), expected, strict=True):
        assert mine.layers == theirs.layers
        torch.testing.assert_close(mine.weights.detach(), theirs.weights, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kinds", ["qk", "qkvo"])
@pytest.mark.parametrize("kind", tiny.ARCHITECTURES)
def test_gradients_are_those_of_plain_linear_layers(kind, kinds):
    """The oracle: the same forward pass, with nn.Linear in place of every frozen layer."""
    found = []
    for plain in (False, True):
        proxy = tiny.proxy(kind)
        adapters = attach(proxy.model, range(1, 3), rank=2, kinds=kinds)
        for adapter in adapters.values():
            nn.init.normal_(adapter.b, generator=torch.Generator().manual_seed(3))
        if plain:
            thaw(proxy.model)
        signals = read_with_grad(proxy, prompts(), WANT)
        sum(s.weights.clamp_min(1e-9).log().square().mean() for s in signals).backward()
        found.append({n: (one.a.grad, one.b.grad) for n, one in adapters.items()})
    for name, grads in found[0].items():
        for mine, theirs in zip(grads, found[1][name], strict=True):
            assert theirs.abs().max() > 1e-6
            torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-3)


def thaw(model) -> None:
    """Puts nn.Linear back in place of every frozen layer."""
    frozen = [(n, m) for n, m in model.named_modules() if isinstance(m, FrozenLinear)]
    for name, module in frozen:
        outs, ins = module.weight.shape
        linear = nn.Linear(ins, outs, bias=module.bias is not None)
        linear.weight.data.copy_(module.weight)
        if module.bias is not None:
            linear.bias.data.copy_(module.bias)
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, linear)


def test_the_gradient_of_a_frozen_product_is_autograds():
    layer = nn.Linear(5, 7).double()
    frozen = FrozenLinear(layer)
    x = torch.randn(3, 5, dtype=torch.double, requires_grad=True)
    torch.testing.assert_close(frozen(x), layer(x))
    assert torch.autograd.gradcheck(frozen, (x,))


@pytest.mark.parametrize("kinds", ["qk", "v", "qkvo"])
def test_only_the_adapters_of_the_chosen_layers_and_projections_learn(kinds):
    proxy = tiny.proxy("qwen2")
    adapters = attach(proxy.model, (1, 3), rank=2, kinds=kinds)
    names = [f"layers.{layer}.self_attn.{p}_proj" for layer in (1, 3) for p in kinds]
    assert list(adapters) == names
    learning = {n for n, p in proxy.model.named_parameters() if p.requires_grad}
    assert learning == {f"{name}.{part}" for name in names for part in "ab"}


def test_the_same_seed_draws_the_same_adapters():
    a, b, c = (attach(tiny.proxy().model, (2,), rank=2, seed=seed) for seed in (0, 0, 1))
    name = "layers.2.self_attn.q_proj"
    assert torch.equal(a[name].a, b[name].a)
    assert not torch.equal(a[name].a, c[name].a)


def test_a_model_without_q_and_k_is_refused_by_what_it_lacks():
    model = tiny.proxy().model
    model.layers[1].self_attn.q_proj = model.layers[1].self_attn.k_proj = None
    with pytest.raises(ProxyUnsupported, match="2 linear projections of q, k in 2 layers, and 4"):
        projections(model, (1, 2))


@pytest.mark.parametrize("rank", [0, 33])
def test_a_rank_that_no_projection_has_is_refused(rank):
    with pytest.raises(BadInput, match="give 1 to 32"):
        attach(tiny.proxy().model, (1,), rank=rank)
