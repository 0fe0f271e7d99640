"""Gated linear scores: laws of the score."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tamis.probes.errors import BadModelFile
from tamis.probes.probing.gated import (
    PARTS,
    GatedFeatures,
    gated_scores,
    request_distance,
    request_gates,
)
from tamis.probes.probing.linear import LinearProbe, ProbeCard

CARD = ProbeCard("question_rows", "m", "r", "t", 1, 1, ())


def draw_features(seed: int) -> GatedFeatures:
    """Ten units of a request."""
    random = torch.Generator().manual_seed(seed)
    base = torch.randn(10, generator=random)
    parts = {name: torch.randn(10, 1, generator=random) for name in PARTS}
    return GatedFeatures(base, base[:, None], parts, torch.tensor([1.0, 0.5]))


def draw_weights(seed: int, prefix: str = "") -> dict[str, Tensor]:
    """Weights for these features, of a training whose requests were near (0, .5)."""
    random = torch.Generator().manual_seed(seed)
    drawn = {name: torch.randn(1, generator=random) for name in ("own", *PARTS)}
    drawn["gates"] = torch.randn(len(PARTS), 3, generator=random)
    drawn["scale"] = torch.randn(3, generator=random) * 0.1
    drawn["request"] = torch.tensor([[0.0, 0.5], [1.0, 0.1]])
    return {f"{prefix}{name}": tensor for name, tensor in drawn.items()}


@pytest.fixture(scope="module")
def probe() -> LinearProbe:
    return LinearProbe(draw_weights(0) | draw_weights(1, "other_"), CARD)


def test_weights_of_another_prefix_are_others(probe):
    features = draw_features(300)
    assert not torch.equal(gated_scores(probe, features), gated_scores(probe, features, "other_"))


def test_without_weights_the_base_is_the_score_bit_for_bit():
    features = draw_features(0)
    zero = {
        "own": torch.zeros(1),
        **{name: torch.zeros(1) for name in PARTS},
        "gates": torch.zeros(len(PARTS), 3),
        "scale": torch.zeros(3),
        "request": torch.stack([torch.zeros(2), torch.ones(2)]),
    }
    assert torch.equal(gated_scores(LinearProbe(zero, CARD), features), features.base)


def test_a_score_is_of_the_unit_and_the_request_alone(probe):
    features = draw_features(5)
    some = torch.tensor([7, 2, 4])
    torch.testing.assert_close(
        gated_scores(probe, features.of_units(some)),
        gated_scores(probe, features)[some],
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
        gated_scores(broken, draw_features(0))
