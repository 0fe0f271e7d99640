"""Gated linear scores: laws of the score, and a fit that learns when to trust a part."""

from __future__ import annotations

import pytest
import torch

from tamis.probes.errors import BadModelFile
from tamis.probes.probing.gated import (
    PARTS,
    GatedFeatures,
    GatedQuestion,
    fit_gated,
    gated_scores,
    request_distance,
    request_gates,
)
from tamis.probes.probing.linear import LinearProbe, ProbeCard

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


def test_weights_of_another_prefix_are_others(probe):
    each = questions(300, 301)[0]
    assert not torch.equal(
        gated_scores(probe, each.features), gated_scores(probe, each.features, "other_")
    )


def test_without_weights_the_base_is_the_score_bit_for_bit():
    each = questions(0, 1)[0]
    zero = {
        "own": torch.zeros(1),
        **{name: torch.zeros(1) for name in PARTS},
        "gates": torch.zeros(len(PARTS), 3),
        "scale": torch.zeros(3),
        "request": torch.stack([torch.zeros(2), torch.ones(2)]),
    }
    assert torch.equal(gated_scores(LinearProbe(zero, CARD), each.features), each.features.base)


def test_a_score_is_of_the_unit_and_the_request_alone(probe):
    each = questions(5, 6)[0]
    some = torch.tensor([7, 2, 4])
    torch.testing.assert_close(
        gated_scores(probe, each.features.of_units(some)),
        gated_scores(probe, each.features)[some],
    )


def test_a_request_far_from_the_training_is_bounded_and_has_a_distance(probe):
    near, far = torch.tensor([1.0, 0.5]), torch.tensor([50.0, 0.5])
    assert request_distance(probe, far) > 10 > 2 > request_distance(probe, near)
    torch.testing.assert_close(
        request_gates(probe, far), request_gates(probe, torch.tensor([500.0, 0.5]))
    )


def test_weights_of_another_shape_are_refused(probe):
    broken = LinearProbe({**probe.weights, "gates": torch.zeros(2, 2)}, CARD)
    with pytest.raises(BadModelFile, match="gates"):
        gated_scores(broken, questions(0, 1)[0].features)
