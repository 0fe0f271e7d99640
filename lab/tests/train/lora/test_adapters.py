"""Adapters that were learnt read, merged into their model, as they did in training."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tamis.probes.hub import zoo
from tamis.probes.hub.adapters import AdapterCard, Adapters
from tamis_lab.train.lora.lowrank import attach
from tamis_lab.train.lora.training import read_with_grad
from tests.probes import tiny
from tests.probes.hub.test_adapters import LAYERS, WANT, prompts, weights
from tests.probes.tiny import one_thread  # noqa: F401


def learnt_adapters(proxy, base: str, scale: float = 1.5) -> Adapters:
    """Adapters that move attention by a lot; the proxy is left with them live."""
    found = attach(proxy.model, LAYERS, rank=2, scale=scale)
    draw = torch.Generator().manual_seed(5)
    for one in found.values():
        nn.init.normal_(one.b, std=0.5, generator=draw)
    card = AdapterCard("sharp", base, proxy.card.revision, "chatml", 2, scale, LAYERS, 4)
    return Adapters({n: (one.a.detach(), one.b.detach()) for n, one in found.items()}, card)


@pytest.mark.parametrize("kind", tiny.ARCHITECTURES)
def test_merged_adapters_read_like_adapters_in_training(kind, tmp_path):
    base = tiny.save(kind, tmp_path / kind)
    live = zoo.load_proxy(base, dtype="fp32")
    before = weights(live)
    learnt_adapters(live, str(base)).save(tmp_path / "sharp")
    merged = zoo.load_proxy(tmp_path / "sharp", dtype="fp32")
    alive = [s.weights.detach() for s in read_with_grad(live, prompts(), WANT)]
    for mine, theirs, frozen in zip(weights(merged), alive, before, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)
        assert (mine - frozen).abs().max() > 0.01
