"""Attention over retrieved keys and values (RetrievalAttention, arXiv 2409.10516, §3).

    keys of a row   the template's opening   the question's tokens up to it   the kept keys found

Attention over disjoint sets of keys is computed set by set. Each part has its output and the log of
its softmax denominator; joined, they are the attention over the union (§3.3). A key in no part has
no weight.

Departures: the paper attends to one prompt's own keys, each at its place in that prompt. Here kept
passages stand side by side (as in parallel context windows, arXiv 2212.10947): each was read alone
behind the opening, so that it serves every question, and a question takes the places behind the
longest of them. No length of a corpus outgrows the model's positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from tamis.probes.attention.cached import join_passages
from tamis.probes.attention.kv_layers import StoredKVLayer
from tamis.probes.attention.recorder import KVLayer, StopForward, causal_mask
from tamis.probes.errors import BadInput, ProxyUnsupported

GATHERED = 1 << 24
"""Components of keys or values that are gathered at once: 64 MB."""


@dataclass(frozen=True, slots=True)
class Partial:
    """Attention over one set of keys.

    Attributes:
        output: `[..., Q, d]` fp32, the weighted mean of the set's values; 0 over an empty set.
        lse: `[..., Q]` fp32, log-sum-exp of the set's logits; -inf over an empty set.
    """

    output: Tensor
    lse: Tensor


def attend_to_all(
    queries: Tensor, keys: Tensor, values: Tensor, seen: Tensor | None = None
) -> Partial:
    """Attention of scaled queries `[..., Q, D]` to all of `[..., N, D]` keys.

    Args:
        values: `[..., N, d]`, or none, `[..., 0, d]`: then the output is 0.
        seen: `[Q, N]` bool, which keys each query may attend to; None for all.
    """
    logits = (queries @ keys.transpose(-1, -2)).float()
    if seen is not None:
        logits.masked_fill_(~seen, -torch.inf)
    lse = logits.logsumexp(-1)
    if not values.shape[-2]:
        return Partial(logits.new_zeros(*lse.shape, values.shape[-1]), lse)
    weights = (logits - _finite(lse)[..., None]).exp_()
    return Partial((weights.to(values.dtype) @ values).float(), lse)


def attend_to_found(queries: Tensor, keys: Tensor, values: Tensor, ids: Tensor) -> Partial:
    """Attention of scaled queries `[Q, D]` to those of `[N, D]` keys that were found for each.

    Args:
        values: `[N, d]`, or none, as for `attend_to_all`.
        ids: `[Q, k]`, the keys of each query, each once; -1 is none.
    """
    few = max(1, GATHERED // max(1, ids.shape[1] * keys.shape[1]))
    parts = [
        attend_to_all(
            own[:, None],
            keys[found.clamp_min(0)],
            values[found.clamp_min(0)] if len(values) else values.expand(len(own), 0, -1),
            (found >= 0)[:, None],
        )
        for own, found in zip(torch.split(queries, few), torch.split(ids, few), strict=True)
    ]
    output, lse = (torch.cat([getattr(one, name) for one in parts]) for name in ("output", "lse"))
    return Partial(output[:, 0], lse[:, 0])


def merge(parts: Sequence[Partial]) -> Partial:
    """The attention over the union of disjoint sets.

    Raises:
        BadInput: no parts, or parts of different shapes.
    """
    if len(shapes := {tuple(part.output.shape) for part in parts}) != 1:
        raise BadInput(f"parts have shapes {sorted(shapes)}; give at least one, all of one shape")
    each = torch.stack([part.lse for part in parts])
    lse = each.logsumexp(0)
    weights = (each - _finite(lse)).exp()
    outputs = torch.stack([part.output for part in parts])
    return Partial((weights[..., None] * outputs).sum(0), lse)


def stack(parts: Sequence[Partial]) -> Partial:
    """The attention of several heads, `[Q, d]` each, as `[heads, Q, d]`."""
    return Partial(
        torch.stack([part.output for part in parts]), torch.stack([part.lse for part in parts])
    )


def _finite(lse: Tensor) -> Tensor:
    """Over an empty set, where every logit is -inf, weights are to be 0, not NaN."""
    return lse.masked_fill(lse == -torch.inf, 0.0)


class KeptKeys(Protocol):
    """Keys and values of kept passages, of which each query finds some."""

    def attend(self, layer: int, queries: Tensor, with_values: bool) -> Partial:
        """Attention of scaled queries `[Hkv, Q, d]` to what they find in a layer.

        Args:
            with_values: whether the output is needed; else it may be 0.
        """
        ...


class RetrievedAttention:
    """Computes and records the attention of one question's pass: a `CustomAttention`.

    Args:
        opening: keys and values of the template's opening. kept: what is retrieved from.
        last: the layer that the pass ends with.

    Attributes:
        queries: of each layer that ran, scaled, `[H, R, d]`.
        lse: of each layer, `[H, R]`, the log of the softmax denominator of each query.
    """

    def __init__(self, opening: Sequence[KVLayer], kept: KeptKeys, last: int) -> None:
        self._opening, self._kept, self._last = opening, kept, last
        self.queries: list[Tensor] = []
        self.lse: list[Tensor] = []

    def weights(self, layer: int, kept: StoredKVLayer, first_row: int = 0) -> Tensor:
        """What the queries from `first_row` on give a kept passage's tokens: `[H, R, N]` fp32.

        It is what they would give each beside all that they attended to, found or not.
        """
        queries = self.queries[layer][:, first_row:]
        H, R, d = queries.shape
        ((keys, *_), _) = join_passages([kept], queries, with_values=False)
        logits = queries.reshape(len(keys), -1, d) @ keys.transpose(1, 2)
        lse = self.lse[layer][:, first_row:, None]
        return (logits.float().view(H, R, -1) - lse).exp_()

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scale: float,
        window: int | None,
    ) -> Tensor:
        """`query [1, H, R, d]` to `[1, R, H, d]`.

        Raises:
            StopForward: this is the last layer.
            ProxyUnsupported: a layer with a window of positions, which kept passages share.
        """
        if window is not None:
            raise ProxyUnsupported(
                f"layer {layer} sees {window} tokens back, and passages side by side have the same "
                "places; read them one by one"
            )
        _, H, R, d = query.shape
        heads = key.shape[1]
        queries = (query[0] * scale).reshape(heads, -1, d)
        opening = self._opening[layer]
        seen = causal_mask(0, R, R, None, query.device).repeat(H // heads, 1)
        parts = [
            attend_to_all(queries, opening.keys.to(queries), opening.values.to(queries)),
            attend_to_all(queries, key[0], value[0], seen),
            self._kept.attend(layer, queries, layer != self._last),
        ]
        found = merge(parts)
        self.queries.append(queries.view(H, R, d))
        self.lse.append(found.lse.view(H, R))
        if layer == self._last:
            raise StopForward
        return found.output.view(H, R, -1).transpose(0, 1)[None].to(query.dtype)
