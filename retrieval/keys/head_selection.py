"""Which heads of a proxy find passages: chosen on questions whose passages are known.

Every passage is read once, every question once in front of none. A head's score is the mean
reciprocal rank of the first passage that answers, among all passages, when chunks are scored as the
index scores them with that head alone. Heads are then taken greedily, each the one that helps most
beside those taken before, until none does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from tamis.probes.attention.rope import unrotated
from tamis.probes.errors import BadInput
from tamis.probes.model.proxy import Proxy
from tamis.probes.model.query_states import question_states
from tamis.probes.prompt import Ask, Prompt, Read
from tamis.probes.signal import Want
from tamis.retrieval.keys.encoder import WINDOW_TOKENS
from tamis.retrieval.keys.late_interaction import SCALE, max_similarities, chunk_scores
from tamis.retrieval.keys.recipe import KeyRecipe

Head = tuple[int, int]
ScoreMatrix = NDArray[np.float32]
_DECIMALS = 5


@dataclass(frozen=True, slots=True)
class LabelledQuestion:
    """A question, and which of the passages answer it."""

    question: str
    gold: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class HeadSelection:
    """A recipe, and the mean reciprocal rank of each head alone and of the chosen together."""

    recipe: KeyRecipe
    heads: dict[Head, float]
    together: float


def select_heads(
    proxy: Proxy,
    passages: Sequence[tuple[str | None, str]],
    cases: Sequence[LabelledQuestion],
    *,
    most: int = 2,
    fitted_on: str = "",
    report: Callable[[], None] = lambda: None,
) -> HeadSelection:
    """Chooses heads of all layers the proxy was loaded with.

    Args:
        passages: titles and texts; what is beyond a window is left out.
        cases: questions whose passages are among them.
        most: at most so many heads: each takes its width in bytes for every token of an index.
        report: told of each layer that was looked at, and of each question that was read.

    Raises:
        BadInput: no cases, or one without a passage of its own.
    """
    if not cases or not all(case.gold for case in cases):
        raise BadInput(f"{len(cases)} questions were given; each needs a passage that answers it")
    keys, starts = _passage_keys(proxy, passages)
    queries, rows = _question_queries(proxy, cases, report)
    alone: dict[Head, ScoreMatrix] = {}
    means: dict[Head, tuple[Tensor, Tensor]] = {}
    for layer in range(proxy.depth):
        for head in range(proxy.card.heads):
            own = head * keys.shape[1] // proxy.card.heads
            k, q = keys[layer, own].float(), queries[layer, head]
            means[layer, head] = (k.mean(0), q.mean(0))
            alone[layer, head] = _head_scores(k - k.mean(0), q - q.mean(0), starts, rows)
        report()
    ranks = {head: _mean_reciprocal_rank(scores, cases) for head, scores in alone.items()}
    chosen, together = _choose_greedily(alone, cases, most)
    return HeadSelection(_make_recipe(proxy, chosen, means, fitted_on), ranks, together)


def _passage_keys(
    proxy: Proxy, passages: Sequence[tuple[str | None, str]]
) -> tuple[Tensor, NDArray[np.int64]]:
    """Keys without their positions, `[L, Hkv, N, d]` fp16, and where each passage's begin."""
    tokens, head = proxy.layout.tokens, len(proxy.layout.head)
    prompts = []
    for title, text in passages:
        line = tokens.encode(f"{title}\n").ids if title else []
        ids = (*line, *tokens.encode(text).ids[:WINDOW_TOKENS])
        prompts.append(Prompt(Read(ids, len(line), ()), Ask((), 0)))
    found = []
    for prompt, kept in zip(prompts, proxy.keep(prompts, Want((proxy.depth - 1,))), strict=True):
        at = torch.arange(head, head + len(prompt.read.ids))
        layers = [unrotated(proxy.body, n, of.keys[:, head:], at) for n, of in enumerate(kept)]
        found.append(torch.stack(layers).half().cpu())
    starts = np.cumsum([0, *(len(prompt.read.ids) for prompt in prompts)])
    return torch.cat(found, 2), starts


def _question_queries(
    proxy: Proxy, cases: Sequence[LabelledQuestion], report: Callable[[], None]
) -> tuple[Tensor, NDArray[np.int64]]:
    """Queries of the questions' own tokens, `[L, H, R, d]`, and where each question's begin."""
    layout, layers = proxy.layout, tuple(range(proxy.depth))
    found = []
    for case in cases:
        ask = layout.ask(case.question)
        own = len(layout.tokens.encode(f" {case.question}"))
        states = next(iter(question_states(proxy, [ask], layers, room=0)))[:, :, :own]
        start = len(layout.head) + ask.rows
        at = torch.arange(start, start + own)
        turned = [unrotated(proxy.body, layer, states[layer], at) for layer in layers]
        found.append(torch.stack(turned).cpu())
        report()
    return torch.cat(found, 2), np.cumsum([0, *(of.shape[2] for of in found)])


def _head_scores(
    keys: Tensor, queries: Tensor, starts: NDArray[np.int64], rows: NDArray[np.int64]
) -> ScoreMatrix:
    """What one head gives every passage for every question: `[cases, passages]`."""
    stored = (normalize(keys, dim=-1) * SCALE).round().to(torch.int8).numpy()
    live = np.ones(len(starts) - 1, bool)
    best = max_similarities(queries.numpy(), stored, starts, heads=1)
    return np.stack([chunk_scores(best[:, a:b], live) for a, b in pairwise(rows)])


def _mean_reciprocal_rank(scores: ScoreMatrix, cases: Sequence[LabelledQuestion]) -> float:
    """Mean reciprocal rank of the first passage that answers; of equals the last place."""
    ranks = [
        int((row >= row[list(case.gold)].max()).sum())
        for row, case in zip(scores, cases, strict=True)
    ]
    return float(np.mean([1 / rank for rank in ranks]))


def _choose_greedily(
    alone: dict[Head, ScoreMatrix], cases: Sequence[LabelledQuestion], most: int
) -> tuple[list[Head], float]:
    chosen: list[Head] = []
    total: ScoreMatrix = np.zeros_like(next(iter(alone.values())))
    reached = 0.0
    while len(chosen) < most:
        tried = {
            head: _mean_reciprocal_rank(total + scores, cases)
            for head, scores in alone.items()
            if head not in chosen
        }
        head = max(tried, key=lambda h: tried[h])
        if tried[head] <= reached:
            break
        chosen, total, reached = [*chosen, head], total + alone[head], tried[head]
    return sorted(chosen), reached


def _make_recipe(
    proxy: Proxy, chosen: Sequence[Head], means: dict[Head, tuple[Tensor, Tensor]], fitted_on: str
) -> KeyRecipe:
    def listed(side: int) -> tuple[tuple[float, ...], ...]:
        return tuple(tuple(round(float(x), _DECIMALS) for x in means[head][side]) for head in chosen)

    return KeyRecipe(
        proxy.card.name,
        proxy.card.revision,
        proxy.layout.template.name,
        tuple(chosen),
        (1.0,) * len(chosen),
        listed(1),
        listed(0),
        fitted_on,
    )
