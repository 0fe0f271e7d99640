"""What a pattern loses on one prompt, beside the dense pass.

density     blocks multiplied, as a share of the dense pass's
coverage    of sampled rows, the share of dense attention on keys that were multiplied: the mean
            over rows, and the least row, each mean over heads and layers
hidden      error of the states that enter the deepest layer, relative to their length
unit ρ      Spearman's rank correlation of the units' mean attention in each head, ties averaged
kept        gold sentences kept at shares of the tokens, by the mean of the best heads
ms          processor time, the dense pass beside it in the same process
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tamis.probes.patterns.parallel import segments_of
from tamis.probes.prefill.contract import BLOCK, Pattern, Sight, sampled_weights
from tamis.probes.prefill.prefill_pass import Prefilled, prefill
from tamis.probes.probing.heads import Head
from tamis.probes.signal import pool_tokens
from tamis.service.datasets.statistics import rank_correlations
from tamis.service.evaluation.prefill.prompts import LongPrompt
from tamis.service.training.probe.figures import fill_token_share

SAMPLED_ROWS = 32


@dataclass(frozen=True, slots=True)
class DenseReference:
    """The dense pass over one prompt.

    Attributes:
        sampled: positions of the sampled rows, `[S]`. weights: their softmax, `[H, S, n]` fp16, of
            every layer but the deepest. ms: processor time of the pass.
    """

    result: Prefilled
    sampled: Tensor
    weights: tuple[Tensor, ...]
    masses: tuple[Tensor, ...]
    ms: float


@dataclass(frozen=True, slots=True)
class PromptFigures:
    """The figures of one pattern on one prompt; see the module.

    Attributes:
        unit_rhos: of every head of layers with rows of their own. kept: gold units kept by share.
    """

    density: float
    coverage: float
    least_coverage: float
    hidden_error: float
    unit_rhos: tuple[float, ...]
    kept: dict[float, int]
    ms: float


class _RowSampler(Sight):
    """Leaves nothing out, and keeps some rows of every layer; its own time is counted."""

    def __init__(self, rows: Tensor) -> None:
        self._rows = rows
        self.weights: list[Tensor] = []
        self.seconds = 0.0

    def blocks(self, layer: int, queries: Tensor, keys: Tensor) -> Tensor | None:
        clock = time.process_time()
        self.weights.append(sampled_weights(queries, keys, self._rows).half())
        self.seconds += time.process_time() - clock
        return None


def dense_reference(proxy: Any, prompt: LongPrompt) -> DenseReference:
    """Runs the dense pass."""
    shape = prompt.shape
    rows = torch.linspace(0, shape.tokens - 1, min(SAMPLED_ROWS, shape.tokens)).round().long()
    sampler = _RowSampler(rows)
    clock = time.process_time()
    result = prefill(proxy, prompt.ids, shape, sampler)
    spent = time.process_time() - clock - sampler.seconds
    masses = tuple(unit_masses(layer, shape.units) for layer in result.rows)
    return DenseReference(result, rows, tuple(sampler.weights), masses, spent * 1e3)


def measure_pattern(
    proxy: Any,
    prompt: LongPrompt,
    pattern: Pattern | None,
    dense: DenseReference,
    heads: Sequence[Head],
    budgets: Sequence[float],
) -> PromptFigures:
    """The figures of a pattern; None for those of the dense pass.

    Args:
        heads: whose mean ranks the units; those of layers without rows of their own do not count.
    """
    clock = time.process_time()
    result = dense.result
    if pattern is not None:
        with proxy.device:
            sight = pattern.start(prompt.shape)
        result = prefill(proxy, prompt.ids, prompt.shape, sight)
    ms = (time.process_time() - clock) * 1e3 if pattern else dense.ms
    seen, least = coverage(result, dense, prompt)
    return PromptFigures(
        result.density,
        seen,
        least,
        hidden_error(result, dense.result),
        unit_rhos(result, dense, prompt.shape.units),
        kept_gold(result, prompt, heads, budgets),
        ms,
    )


def unit_masses(rows: Tensor, units: Tensor) -> Tensor:
    """The mean weight of each unit's tokens by the mean row: `[H, R, n]` to `[H, U]`."""
    return pool_tokens(rows.mean(1), units.tolist(), "mean").T


def unit_rhos(result: Prefilled, dense: DenseReference, units: Tensor) -> tuple[float, ...]:
    """Rank correlation of unit masses with the dense pass's, of every head with rows of its own.

    Empty for fewer than three units.
    """
    if len(units) < 3:
        return ()
    found: list[float] = []
    for rows, own, masses in zip(result.rows, result.own, dense.masses, strict=True):
        if own:
            found += rank_correlations(unit_masses(rows, units), masses)
    return tuple(found)


def coverage(result: Prefilled, dense: DenseReference, prompt: LongPrompt) -> tuple[float, float]:
    """The share of dense attention on keys that were multiplied: mean row, and least row."""
    means, leasts = [], []
    apart = segments_of(prompt.shape) if result.apart else None
    for layer, weights in enumerate(dense.weights):
        visible = visible_keys(result, layer, dense.sampled, prompt.shape.tokens, apart)
        came = torch.isin(dense.sampled, result.alive[layer])
        grouped = weights.float().view(len(visible), -1, *weights.shape[1:])
        mass = (grouped * visible[:, None]).sum(-1).flatten(0, 1)[:, came]
        means.append(float(mass.mean()))
        leasts.append(float(mass.min(1).values.mean()))
    return sum(means) / len(means), sum(leasts) / len(leasts)


def visible_keys(
    result: Prefilled, layer: int, rows: Tensor, tokens: int, apart: Tensor | None
) -> Tensor:
    """Which keys some rows were multiplied with: `[Hkv or 1, S, n]` bool."""
    seen, alive = result.seen[layer], result.alive[layer]
    came = torch.zeros(tokens, dtype=torch.bool)
    came[alive] = True
    if seen is None:
        visible = came.expand(1, len(rows), -1)
    else:
        at = torch.arange(tokens) // BLOCK
        visible = seen[:, rows // BLOCK][:, :, at]
    if apart is not None:
        own, other = apart[rows][:, None], apart
        visible = visible & ((own == other) | (own < 0) | (other < 0))
    return visible


def hidden_error(result: Prefilled, dense: Prefilled) -> float:
    """The error of the states that enter the deepest layer, relative, mean over its tokens."""
    due = dense.states[result.alive[-1]].float()
    off = (result.states.float() - due).norm(dim=1)
    return float((off / due.norm(dim=1).clamp_min(1e-6)).mean())


def kept_gold(
    result: Prefilled, prompt: LongPrompt, heads: Sequence[Head], budgets: Sequence[float]
) -> dict[float, int]:
    """Gold units kept at shares of the tokens, ranked by the mean attention of some heads."""
    chosen = [(layer, head) for layer, head in heads if result.own[layer]]
    layers = {layer: unit_masses(result.rows[layer], prompt.shape.units) for layer, _ in chosen}
    masses = [layers[layer][head] for layer, head in chosen]
    scores = torch.stack(masses).mean(0) if masses else torch.zeros(len(prompt.gold))
    tokens = prompt.unit_tokens
    return {
        share: int(prompt.gold[fill_token_share(scores, tokens, share)].sum()) for share in budgets
    }
