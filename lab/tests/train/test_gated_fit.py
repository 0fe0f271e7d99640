"""The fit of a gated score learns when to trust a part."""

from __future__ import annotations

import pytest
import torch

from tamis.probes.probing.gated import GatedFeatures, gated_scores, request_gates
from tamis.probes.probing.linear import LinearProbe, ProbeCard
from tamis_lab.train.gated_fit import GatedQuestion, fit_gated

CARD = ProbeCard("question_rows", "m", "r", "t", 1, 1, ())


def question(kind: float, seed: int) -> GatedQuestion:
    """Ten units. Kind 1: `levels` tells the gold unit and `links` misleads; kind -1 the reverse."""
    random = torch.Generator().manual_seed(seed)
    gold = torch.zeros(10, dtype=torch.bool)
    gold[int(torch.randint(10, (1,), generator=random))] = True
    signal = gold.float()[:, None] * 2 + torch.randn(10, 1, generator=random) * 0.3
    noise = torch.randn(10, 1, generator=random) * 2
    parts = {"levels": signal if kind > 0 else noise, "links": noise if kind > 0 else signal}
    base = torch.randn(10, generator=random) * 0.1
    features = GatedFeatures(base, base[:, None], parts, torch.tensor([kind, 0.5]))
    return GatedQuestion(features, gold, "manuals" if kind > 0 else "hops")


def questions(first: int, last: int) -> list[GatedQuestion]:
    return [question(1.0 if seed % 2 else -1.0, seed) for seed in range(first, last)]


@pytest.fixture(scope="module")
def probe() -> LinearProbe:
    return LinearProbe(fit_gated(questions(0, 200)) | fit_gated(questions(0, 60), "other_"), CARD)


def test_the_gate_learns_which_part_to_trust(probe):
    hits = [
        bool(each.gold[gated_scores(probe, each.features).argmax()]) for each in questions(200, 260)
    ]
    assert sum(hits) > 54
    links, levels = request_gates(probe, torch.tensor([1.0, 0.5])).tolist()
    assert levels > 1.5 * links
