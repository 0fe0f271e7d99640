"""The contract of an eviction policy: which tokens of a kept passage later questions can spare.

    EvictionClass   the class that a file's last line names: `Eviction: EvictionClass = TheClass`
    KeptPassage     what it looks at: keys, values, and what `EvictionInfo.needs` names
    EvictionPlan    what it returns: the tokens that each key head keeps, and their bias

The template's opening is no part of a passage and is never thinned. `best_tokens`, `even_plan` and
`ragged_plan` do what most policies have in common.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from tamis.probes.errors import BadInput
from tamis_lab.methods.registry import EvictionInfo as EvictionInfo
from tamis_lab.methods.registry import Needs as Needs


@dataclass(frozen=True, slots=True)
class KeptPassage:
    """A passage of N tokens as it was read, in L layers.

    Attributes:
        keys, values: `[L, Hkv, N, d]` fp32, keys rotated.
        rows: `[L, H, B, N]` attention, by what the policy needs: of B questions (means of their
            rows), of the passage's own rows (their mean, B = 1), or of the repetition (their
            maximum, B = 1). None unless it needs rows.
        queries: `[L, H, B, d]` scaled and rotated to the place behind this passage.
        sizes: `[L, Hkv]` how much a probe weighs the query heads of each key head.
        span_losses: `[L, Hkv, S]` what a probe's scores lose if the head keeps the last
            `SPANS[s]` tokens only; falling with the span.
        seed: of policies that draw; the same for the same passage.
    """

    keys: Tensor
    values: Tensor
    rows: Tensor | None = None
    queries: Tensor | None = None
    sizes: Tensor | None = None
    span_losses: Tensor | None = None
    seed: int = 0

    @property
    def shape(self) -> tuple[int, int, int]:
        """Layers, key heads and tokens: L, Hkv, N."""
        layers, heads, tokens, _ = self.keys.shape
        return layers, heads, tokens


SPANS = (0, 32, 64, 128, 256)
"""Tokens at the end of a passage, whose loss of all else is measured; the next span is all."""


@dataclass(frozen=True, slots=True)
class EvictionPlan:
    """What is kept of a passage.

    Attributes:
        ids: for each layer `[Hkv, M]` int64, the tokens that each head keeps, ascending, -1 at the
            end where a head keeps fewer.
        bias: for each layer `[Hkv, M]` fp32, added to the logits: the log of how many tokens a kept
            one stands for. None for zeros.
    """

    ids: tuple[Tensor, ...]
    bias: tuple[Tensor, ...] | None = None

    def count(self) -> int:
        """The number of kept tokens over all layers and heads."""
        return sum(int((layer >= 0).sum()) for layer in self.ids)


class Eviction(Protocol):
    """Chooses what is kept of a passage."""

    def keep(self, passage: KeptPassage, share: float) -> EvictionPlan:
        """Keeps at most `share` of all L·Hkv·N tokens of heads, and at least one a head.

        Share 1 keeps every token in order, without bias.
        """
        ...


class EvictionClass(Protocol):
    """The class of a policy."""

    @property
    def info(self) -> EvictionInfo:
        """What it is and where it comes from, as a class attribute."""
        ...

    def __call__(self) -> Eviction:
        """A policy with its default options."""
        ...


def check_share(share: float, shares: tuple[float, ...] = ()) -> None:
    """Refuses a share outside (0, 1], or one that a policy cannot keep.

    Raises:
        BadInput: it is refused.
    """
    if not 0 < share <= 1:
        raise BadInput(f"share is {share}; give one above 0, up to 1")
    if shares and share not in shares:
        raise BadInput(f"share is {share}; this policy keeps {', '.join(map(str, shares))}")


def needed(part: Tensor | None, name: str) -> Tensor:
    """A part of a passage that the policy needs.

    Raises:
        BadInput: it was not given.
    """
    if part is None:
        raise BadInput(f"this policy needs the {name} of a passage; see EvictionInfo.needs")
    return part


def head_budget(tokens: int, share: float) -> int:
    """How many of N tokens a head keeps: the share rounded down, at least one."""
    return max(1, int(share * tokens))


def best_tokens(scores: Tensor, count: int) -> Tensor:
    """The `count` best of N scores `[..., N]`, ascending: `[..., count]`; ties go to the first."""
    order = scores.argsort(dim=-1, descending=True, stable=True)[..., :count]
    return order.sort(-1).values


def even_plan(scores: Tensor, share: float) -> EvictionPlan:
    """Every head keeps its own best tokens, each head as many: scores `[L, Hkv, N]`."""
    return EvictionPlan(tuple(best_tokens(scores, head_budget(scores.shape[-1], share))))


def ragged_plan(kept: Tensor) -> EvictionPlan:
    """The plan of a mask `[L, Hkv, N]` bool: heads keep different numbers of tokens."""
    ids = []
    for layer in kept:
        width = max(1, int(layer.sum(-1).max()))
        order = (~layer).to(torch.uint8).argsort(dim=-1, stable=True)[:, :width]
        ids.append(order.where(layer.gather(1, order), -1))
    return EvictionPlan(tuple(ids))


def group_mean(rows: Tensor, kv_heads: int) -> Tensor:
    """The mean over the query heads of each key head: `[L, H, ...]` to `[L, Hkv, ...]`."""
    return by_key_head(rows, kv_heads).mean(2)


def by_key_head(rows: Tensor, kv_heads: int) -> Tensor:
    """Query heads beside their key head: `[L, H, ...]` to `[L, Hkv, H / Hkv, ...]`."""
    return rows.reshape(rows.shape[0], kv_heads, -1, *rows.shape[2:])
