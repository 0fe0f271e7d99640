"""Carries out a plan: keys and values of the tokens that are kept, with stand-ins for the others.

    plan ─ ids of each head ─► kept columns ─┐
    units ─ evicted tokens ──► stand-ins ────┴─► ThinKVLayer

A unit of which a head keeps nothing would read as if no question had ever looked at it, and what it
would have got goes to others. A stand-in is one more column for the evicted tokens of a unit: the
mean of their keys, the mean of their values, and the log of their number as bias. Its logit never
exceeds the log of the sum of theirs (Jensen), and equals it where their keys are equal.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tamis.probes.attention.recorder import KVLayer
from tamis.probes.attention.thin_layer import Placement, ThinKVLayer
from tamis_lab.methods.kv_thinning.contract import EvictionPlan


def thin_layers(
    layers: Sequence[KVLayer], plan: EvictionPlan, spans: Sequence[tuple[int, int]] | None = None
) -> list[ThinKVLayer]:
    """The kept part of a passage, layer by layer.

    Args:
        layers: of the passage, exact.
        spans: half-open spans of tokens, ascending and disjoint, whose evicted tokens get
            stand-ins; tokens between them get one a gap. None for no stand-ins.
    """
    tokens = layers[0].keys.shape[1]
    groups = None if spans is None else unit_of_tokens(spans, tokens)
    biases = plan.bias or (None,) * len(plan.ids)
    return [
        _thin_layer(layer, ids, bias, groups)
        for layer, ids, bias in zip(layers, plan.ids, biases, strict=True)
    ]


def unit_of_tokens(spans: Sequence[tuple[int, int]], tokens: int) -> Tensor:
    """A number for each of N tokens, the same for those of a unit, or of a gap: `[N]`."""
    starts = torch.zeros(tokens, dtype=torch.long)
    for a, b in spans:
        for edge in (a, b):
            if 0 < edge < tokens:
                starts[edge] = 1
    return starts.cumsum(0)


def stand_in_count(groups: Tensor) -> int:
    """How many stand-ins a head may need: one for each unit and gap."""
    return int(groups[-1]) + 1 if len(groups) else 0


def _thin_layer(
    layer: KVLayer, ids: Tensor, bias: Tensor | None, groups: Tensor | None
) -> ThinKVLayer:
    heads, tokens, _ = layer.keys.shape
    ids = ids.to(layer.keys.device)
    keys, values = (_gather(part, ids) for part in (layer.keys, layer.values))
    is_kept = ids >= 0
    added = layer.keys.new_zeros(ids.shape, dtype=torch.float32) if bias is None else bias
    added = added.masked_fill(~is_kept, -torch.inf)
    # one column too many takes the padding; it is cut off again
    source = ids.new_full((heads, tokens + 1), -1)
    columns = torch.arange(ids.shape[1], device=ids.device).expand(heads, -1)
    source.scatter_(1, ids.where(is_kept, tokens), columns)
    source, positions = source[:, :tokens], ids.clamp_min(0)
    share = (source >= 0).float()
    if groups is not None and bool((source < 0).any()):
        own = _StandIns(source < 0, groups.to(ids.device))
        keys = torch.cat((keys, own.mean(layer.keys)), 1)
        if layer.values.shape[1]:
            values = torch.cat((values, own.mean(layer.values)), 1)
        added = torch.cat((added, own.counts.log()), 1)
        positions = torch.cat((positions, own.positions), 1)
        first = ids.shape[1]
        source = source.where(source >= 0, first + own.groups.expand(heads, -1))
        share = share + own.share
    return ThinKVLayer(keys, values, Placement(source, share, added, positions))


def _gather(vectors: Tensor, ids: Tensor) -> Tensor:
    """The vectors `[Hkv, N, d]` of each head's ids `[Hkv, M]`; none where there are none."""
    if not vectors.shape[1]:
        return vectors
    return vectors.gather(1, ids.clamp_min(0)[..., None].expand(-1, -1, vectors.shape[-1]))


class _StandIns:
    """Means over the evicted tokens of each unit.

    Args:
        evicted: `[Hkv, N]` bool. groups: `[N]`, the unit of each token.

    Attributes:
        counts: `[Hkv, U]` how many evicted tokens a unit has. share: `[Hkv, N]` of its stand-in's
            weight that an evicted token gets. positions: `[Hkv, U]` the middle of them.
    """

    def __init__(self, evicted: Tensor, groups: Tensor) -> None:
        self.groups = groups
        member = torch.nn.functional.one_hot(groups, stand_in_count(groups)).float()
        self._weights = evicted.float()[..., None] * member  # [Hkv, N, U]
        self.counts = self._weights.sum(1)
        share = evicted / self.counts[:, groups].clamp_min(1)
        self.share = share
        places = torch.arange(len(groups), device=groups.device).float()
        middle = torch.einsum("hnu,n->hu", self._weights, places) / self.counts.clamp_min(1)
        self.positions = middle.long()

    def mean(self, vectors: Tensor) -> Tensor:
        """The mean vector of each unit's evicted tokens: `[Hkv, N, d]` to `[Hkv, U, d]`."""
        total = self._weights.transpose(1, 2) @ vectors.float()
        return (total / self.counts.clamp_min(1)[..., None]).to(vectors.dtype)
