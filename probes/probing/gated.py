"""A linear score whose parts are trusted as far as the request says.

    score = (base + own · w + Σ_k sigmoid(gate_k · request) · (part_k · w_k)) · exp(t · request)

The gate lets one fit serve domains whose evidence has another shape: a run of steps in a manual,
two lone sentences in an encyclopaedia. It sees the request alone, so it cannot prefer single units.
Nor can the scale `exp(t · request)`, which makes scores of sharp and flat requests mean the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tamis.probes.probing.linear import LinearProbe

PARTS = ("links", "levels")
_LARGEST_LOG_SCALE = 2.0
_MOST_SPREADS = 2.5
"""Features of a request count as at most so many standard deviations from the training's mean."""


@dataclass(frozen=True, slots=True)
class GatedFeatures:
    """One request's features.

    Attributes:
        base: `[U]`, the score that is added with weight 1. own: `[U, n]`.
        parts: one tensor a name of `PARTS`, `[U, n_k]`.
        request: `[D]`, what the gates see.
    """

    base: Tensor
    own: Tensor
    parts: Mapping[str, Tensor]
    request: Tensor

    def of_units(self, units: Tensor) -> GatedFeatures:
        """Those of some units, by their indexes."""
        parts = {name: part[units] for name, part in self.parts.items()}
        return GatedFeatures(self.base[units], self.own[units], parts, self.request)


def gated_scores(probe: LinearProbe, features: GatedFeatures, prefix: str = "") -> Tensor:
    """The score of each unit, `[U]`, by the weights whose names begin with the prefix."""
    own = probe.weight(f"{prefix}own", (features.own.shape[1],))
    scores = features.base + features.own @ own
    row = _request_row(probe, features.request, prefix)
    gates = request_gates(probe, features.request, prefix)
    for gate, name in zip(gates, PARTS, strict=True):
        part = features.parts[name]
        scores = scores + gate * (part @ probe.weight(f"{prefix}{name}", (part.shape[1],)))
    return scores * scale_of(row, probe.weight(f"{prefix}scale", (len(row),)))


def request_gates(probe: LinearProbe, request: Tensor, prefix: str = "") -> Tensor:
    """How far each part is trusted in a request, 0 to 1: `[len(PARTS)]`."""
    row = _request_row(probe, request, prefix)
    return torch.sigmoid(row @ probe.weight(f"{prefix}gates", (len(PARTS), len(row))).T)


def request_distance(probe: LinearProbe, request: Tensor, prefix: str = "") -> float:
    """How unlike the training a request is: the root mean square of its standardised features."""
    mean, spread = probe.weight(f"{prefix}request", (2, len(request)))
    return float(((request - mean) / spread).square().mean().sqrt())


def is_unlike_fit(probe: LinearProbe, request: Tensor, prefix: str = "") -> bool:
    """Whether a request is farther from the training's mean than nearly all of the training's."""
    if f"{prefix}unlike" not in probe.weights:
        return False
    return request_distance(probe, request, prefix) > float(probe.weight(f"{prefix}unlike", (1,)))


def _request_row(probe: LinearProbe, request: Tensor, prefix: str) -> Tensor:
    """The request's features as standard scores, and a 1: `[D + 1]`."""
    mean, spread = probe.weight(f"{prefix}request", (2, len(request)))
    return standardise(request, mean, spread)


def scale_of(row: Tensor, weights: Tensor) -> Tensor:
    """What the scores of a request are multiplied with, always above 0."""
    return (row @ weights).clamp(-_LARGEST_LOG_SCALE, _LARGEST_LOG_SCALE).exp()


def standardise(request: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
    """Standard scores, bounded, and a 1 for the bias: `[..., D + 1]`."""
    z = ((request - mean) / spread).clamp(-_MOST_SPREADS, _MOST_SPREADS)
    return torch.cat([z, z.new_ones((*z.shape[:-1], 1))], -1)
