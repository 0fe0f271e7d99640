"""Weights packed for bf16: as near to fp32 as transformers, held once, and given back whole."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
import torch
from torch import nn

from tamis.probes.attention import linear_kernels
from tamis.probes.attention.linear_kernels import PackedLinear, can_fuse, pack, unpack
from tamis.probes.model.proxy import Proxy
from tamis.probes.prompt import TEMPLATES
from tests.probes import tiny
from tests.probes.model.forward_kit import OURS, WANT, prompts, readings, run_by_transformers
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture for every test here

# bf16 rounds states to 8 bits once more or once less in each of four layers
BF16 = 2.5e-2

blocks = pytest.mark.skipif(
    not can_fuse(torch.empty(1, dtype=torch.bfloat16)), reason="no bf16 blocks in this processor"
)


def max_distance(ours: Proxy, exact: Proxy) -> float:
    """How far all readings are from exact ones: the root of the sum of squares."""
    pairs = zip(readings(ours), readings(exact), strict=True)
    return float(sum((a.double() - b.double()).square().sum() for a, b in pairs)) ** 0.5


@pytest.mark.parametrize("kind", OURS)
def test_a_packed_model_is_no_further_from_fp32_than_transformers_is(
    kind: str, tmp_path: Path
) -> None:
    folder = tiny.save(kind, tmp_path)
    packed, rows = (Proxy.from_folder(folder, dtype="bf16", device="cpu") for _ in range(2))
    theirs = run_by_transformers(rows)
    exact = run_by_transformers(rows)
    exact.model.float()
    assert max_distance(packed, exact) <= 1.1 * max_distance(theirs, exact)


@pytest.mark.parametrize("kind", OURS)
def test_a_packed_model_still_runs_in_transformers_and_has_its_weights(
    kind: str, tmp_path: Path
) -> None:
    packed = Proxy.from_folder(tiny.save(kind, tmp_path), dtype="bf16", device="cpu")
    ids = torch.tensor([tiny.ids(30)])
    weights = {name: weight.clone() for name, weight in packed.model.state_dict().items()}
    with torch.inference_mode():
        before = packed.model(input_ids=ids).last_hidden_state
        packed.opening_kv()
        after = packed.model(input_ids=ids).last_hidden_state
    assert torch.equal(before, after)
    again = packed.model.state_dict()
    assert weights.keys() == again.keys()
    assert all(torch.equal(weights[name], again[name]) for name in weights)


@blocks
def test_packed_weights_are_stored_once(tmp_path: Path) -> None:
    proxy = Proxy.from_folder(tiny.save("llama", tmp_path), dtype="bf16", device="cpu")
    proxy.opening_kv()
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
        p.forget_weights()
    changed, expected = (list(p.read(prompts(p), WANT)) for p in (proxy, plain))
    assert all(torch.equal(a.weights, b.weights) for a, b in zip(changed, expected, strict=True))
    assert not torch.equal(changed[0].weights, before[0])


def test_a_model_that_is_not_owned_keeps_its_layers() -> None:
    model = tiny.model("llama", dtype=torch.bfloat16)
    before = list(model.modules())
    list(readings(Proxy.from_model(model, tiny.tokenizer(), template=TEMPLATES["chatml"])))
    assert list(model.modules()) == before


@blocks
def test_a_packed_layer_computes_from_its_rows_where_gradients_are_needed() -> None:
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
        assert isinstance(layer, PackedLinear)
        assert torch.equal(layer.weight, rows[name])
        expected = nn.functional.linear(states, rows[name], biases[name])
        assert torch.equal(layer(states), expected)
        (grad,) = torch.autograd.grad(layer(states).sum(), states)
        assert torch.equal(grad, torch.autograd.grad(expected.sum(), states)[0])


def test_without_blocks_bf16_runs_by_rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tiny.save("llama", tmp_path)
    monkeypatch.setattr(linear_kernels, "_HAS_BF16_BLOCKS", False)
    proxy = Proxy.from_folder(folder, dtype="bf16", device="cpu")
    rows = [signal.weights for signal in proxy.read(prompts(proxy), WANT)]
    assert all(type(layer.mlp.up_proj) is nn.Linear for layer in proxy.model.layers)
    monkeypatch.undo()
    again = Proxy.from_folder(folder, dtype="bf16", device="cpu")
    for one, other in zip(rows, again.read(prompts(again), WANT), strict=True):
        torch.testing.assert_close(one, other.weights, atol=BF16, rtol=BF16)


def test_threads_that_ask_at_once_pack_the_weights_once(tmp_path: Path) -> None:
    proxy = Proxy.from_folder(tiny.save("llama", tmp_path), dtype="bf16", device="cpu")
    proxy.forget_weights()
    together = Barrier(8)

    def ask() -> object:
        together.wait()
        return proxy._runner.own_forward()

    with ThreadPoolExecutor(8) as threads:
        found = [asked.result() for asked in [threads.submit(ask) for _ in range(8)]]
    assert found[0] is not None
    assert len(set(map(id, found))) == 1
