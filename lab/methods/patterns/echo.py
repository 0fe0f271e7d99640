"""EchoAtt: inner layers whose attention is alike share the first one's weights.

Source: EchoAtt (2024, arXiv 2409.14595): the similarity of attention maps between layers chooses
runs of inner layers that share weights; the first and the last layers never do; the model is then
distilled.

    Sim[l, m] = mean over heads and rows of cos(a[l, h, r], a[m, h, r])
    a layer takes the weights of the run's first layer where their similarity is at least θ

Departures: θ is the highest at which the share of layers has weights of its own; rows are the
question's; head h is compared with head h, as weights are taken head by head; nothing is distilled,
which the paper needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from tamis_lab.methods.patterns.shared import SharedLayers
from tamis_lab.methods.prefill import contract
from tamis_lab.methods.prefill.contract import PatternInfo, PromptShape


class Echo(contract.Pattern):
    """Runs of layers that are alike."""

    info: ClassVar[PatternInfo] = PatternInfo(
        "runs of layers whose rows are alike take the first one's weights",
        "arXiv 2409.14595",
        share="layers with weights of their own",
        needs_similarity=True,
    )

    def start(self, shape: PromptShape) -> contract.Sight:
        """The runs at the highest threshold that leaves the share."""
        assert self.similarity is not None
        alike = self.similarity[: shape.layers, : shape.layers]
        return SharedLayers(runs_at_share(alike, self.share))


def runs_at_share(similarity: Tensor, share: float) -> dict[int, int]:
    """The source of each layer that shares, at the highest threshold that leaves the share.

    Args:
        similarity: `[L, L]`.
    """
    layers = len(similarity)
    wanted = min(max(0, layers - 2), round((1 - share) * layers))
    found: dict[int, int] = {}
    for threshold in (*similarity.flatten().sort(descending=True).values.tolist(), -1.0):
        if len(found) >= wanted:
            break
        found = runs(similarity, threshold)
    return found


def runs(similarity: Tensor, threshold: float) -> dict[int, int]:
    """Inner layers that are as like the first of their run as the threshold, with that layer."""
    found, source = {}, 0
    for layer in range(1, len(similarity) - 1):
        if source and float(similarity[source, layer]) >= threshold:
            found[layer] = source
        else:
            source = layer
    return found


def layer_similarity(rows: Sequence[Tensor]) -> Tensor:
    """How alike the rows of two layers are, mean over heads and rows: `[L, L]`.

    Args:
        rows: of each layer, `[H, R, n]`.
    """
    unit = torch.stack([torch.nn.functional.normalize(layer.float(), dim=-1) for layer in rows])
    flat = unit.flatten(1, 2)
    return torch.einsum("lrn,mrn->lm", flat, flat) / flat.shape[1]


Pattern = Echo
