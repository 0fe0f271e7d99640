"""Scores of a proxy without a probe: the attention of a few heads, found without labels.

On random tokens that are repeated, induction heads look at what followed a token's earlier copy
(RazorAttention, Tang et al. 2024, arXiv 2407.15891, §3.2); no label, language or text is needed to
find them, and on real questions the same heads look at evidence.

    with a profile   mean over the 16 best of the first two thirds of depth of log a[h, best]
    without one      mean over all heads at 45 to 75 % of depth of a[h, mean]

a[h, best] and a[h, mean] are what the question's rows pay to a unit's best token, and per token.
Departures: heads per query head and not per key group, and no cache is thinned by them. Measured in
lab/log/heads.md#2026-11-26-a-proxy-without-a-probe.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from tamis.probes.probing.heads import Head, HeadProfile, choose_profile

HEADS = 16
_BY = "induction"
_INDUCTION_DEPTH = 2 / 3
"""Induction heads below this share of depth look at what comes next, less at what was asked."""
_MIDDLE_OF_DEPTH = (0.45, 0.75)
"""The shares of depth between which heads attend to evidence in every model measured so far."""


@dataclass(frozen=True, slots=True)
class UnfittedHeads:
    """The heads that are averaged.

    Attributes:
        first, stop: the half-open range of layers they are in.
        induction: layer and head each; empty where all heads of these layers are averaged.
    """

    first: int
    stop: int
    induction: tuple[Head, ...] = ()

    @classmethod
    def choose(cls, reader: Any, profile: HeadProfile | Path | str) -> Self:
        """The best induction heads of a proxy, or the middle of it where there is no profile.

        Args:
            profile: of induction heads, or its path; `auto` is the one that ships, if one does for
                this revision and template.

        Raises:
            ProbeMismatch: the profile is of another model, revision or template.
            BadModelFile: it cannot be read.
        """
        card, template = reader.card, reader.layout.template.name
        if found := _find_profile(card.name, profile):
            if profile != "auto":
                found.check(card, template)
            heads = induction_heads(found)
            layers = [layer for layer, _ in heads]
            fits = (found.revision, found.template, found.layers, found.heads)
            if fits == (card.revision, template, card.layers, card.heads):
                return cls(min(layers), max(layers) + 1, heads)
        return cls(*_middle_layers(card.layers))

    def scores(self, features: Tensor, heads: int) -> Tensor:
        """The score of each unit, `[U]`.

        Args:
            features: log mean and log maximum of the question rows' attention, `[U, 2·L·H]`.
            heads: H, of one layer.
        """
        mean, best = features.view(len(features), 2, -1, heads).unbind(1)
        if self.induction:
            layers, columns = zip(*self.induction, strict=True)
            return best[:, layers, columns].mean(1)
        return mean[:, self.first : self.stop].exp().mean((1, 2))


def unfitted_layers(model: str, profile: HeadProfile | Path | str) -> int | None:
    """How many layers are enough, whether the profile fits the model or not; None without one.

    Args:
        profile: as for `UnfittedHeads.choose`.

    Raises:
        BadModelFile: it cannot be read.
    """
    found = _find_profile(model, profile)
    if found is None:
        return None
    deepest = max(layer for layer, _ in induction_heads(found))
    return max(deepest + 1, _middle_layers(found.layers)[1])


def induction_heads(profile: HeadProfile) -> tuple[Head, ...]:
    """The best heads of a profile that are not too deep, best first."""
    most = max(1, round(_INDUCTION_DEPTH * profile.layers))
    ranked = profile.best(profile.layers * profile.heads)
    return tuple(head for head in ranked if head[0] < most)[:HEADS]


def _find_profile(model: str, profile: HeadProfile | Path | str) -> HeadProfile | None:
    if profile == "auto" and not HeadProfile.is_shipped(_BY, model):
        return None
    return choose_profile(profile, _BY, model)


def _middle_layers(depth: int) -> tuple[int, int]:
    first = int(_MIDDLE_OF_DEPTH[0] * depth)
    return first, max(first + 1, ceil(_MIDDLE_OF_DEPTH[1] * depth))
