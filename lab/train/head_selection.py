"""Selects the heads of a proxy that find passages, on questions whose passages are known.

Every passage is read once, and every question once, without a passage. A head's score is the mean
reciprocal rank of the first passage that answers, among all passages, when chunks are scored as the
index scores them with that head alone. Heads are then added greedily, each the one that improves
the selection most, until none improves it.
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

from tamis.probes.attention.rope import remove_rotation
from tamis.probes.errors import BadInput
from tamis.probes.model.proxy import Proxy
from tamis.probes.model.query_states import question_states
from tamis.probes.probing.heads import Head
from tamis.probes.prompt import PassageTokens, Prompt, QuestionTokens
from tamis.probes.signal import Want
from tamis.retrieval.keys.encoder import WINDOW_TOKENS
from tamis.retrieval.keys.late_interaction import (
    SCALE,
    max_similarities,
    reference_of,
    stand_out_scores,
)
from tamis.retrieval.keys.recipe import KeyRecipe

ScoreMatrix = NDArray[np.float32]
"""Scores by question and passage: `[Q, P]`."""
_DECIMALS = 5
"""Of the means in a recipe."""


@dataclass(frozen=True, slots=True)
class LabelledQuestion:
    """A question, and the indexes of the passages that answer it."""

    question: str
    gold: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class HeadSelection:
    """The selected heads as a recipe, and what they were selected by.

    Attributes:
        head_mrr: the mean reciprocal rank of each head of the proxy alone.
        recipe_mrr: that of the selected heads together.
    """

    recipe: KeyRecipe
    head_mrr: dict[Head, float]
    recipe_mrr: float


def select_heads(
    proxy: Proxy,
    passages: Sequence[tuple[str | None, str]],
    questions: Sequence[LabelledQuestion],
    *,
    max_heads: int = 2,
    fitted_on: str = "",
    report: Callable[[], None] = lambda: None,
) -> HeadSelection:
    """Selects heads from all layers that the proxy was loaded with.

    Args:
        passages: titles and texts; what is beyond a window is left out.
        questions: with their passages among these.
        max_heads: each head takes its width in bytes for every token of an index.
        fitted_on: what the recipe says it was fitted on.
        report: called after each question that was read, and after each layer that was scored.

    Raises:
        BadInput: no questions, or one without a passage that answers it.
    """
    if not questions or not all(question.gold for question in questions):
        raise BadInput(
            f"{len(questions)} questions were given; each needs a passage that answers it"
        )
    keys, starts = _passage_keys(proxy, passages)
    queries, rows = _question_queries(proxy, questions, report)
    alone: dict[Head, ScoreMatrix] = {}
    means: dict[Head, tuple[Tensor, Tensor]] = {}
    for layer in range(proxy.depth):
        for head in range(proxy.card.heads):
            own = head * keys.shape[1] // proxy.card.heads
            k, q = keys[layer, own].float(), queries[layer, head]
            means[layer, head] = (k.mean(0), q.mean(0))
            alone[layer, head] = _head_scores(k - k.mean(0), q - q.mean(0), starts, rows)
        report()
    head_mrr = {head: _mean_reciprocal_rank(scores, questions) for head, scores in alone.items()}
    selected, recipe_mrr = _select_greedily(alone, questions, max_heads)
    return HeadSelection(_make_recipe(proxy, selected, means, fitted_on), head_mrr, recipe_mrr)


def _passage_keys(
    proxy: Proxy, passages: Sequence[tuple[str | None, str]]
) -> tuple[Tensor, NDArray[np.int64]]:
    """Keys without rotary positions, `[L, Hkv, N, d]` fp16, and where each passage's begin."""
    tokenizer, start = proxy.layout.tokenizer, len(proxy.layout.opening)
    prompts = []
    for title, text in passages:
        line = tokenizer.encode(f"{title}\n").ids if title else []
        ids = (*line, *tokenizer.encode(text).ids[:WINDOW_TOKENS])
        prompts.append(Prompt(PassageTokens(ids, len(line), ()), QuestionTokens((), 0)))
    keys = []
    all_kv = proxy.compute_kv(prompts, Want((proxy.depth - 1,)))
    for prompt, kv in zip(prompts, all_kv, strict=True):
        positions = torch.arange(start, start + len(prompt.passage.ids))
        layers = [
            remove_rotation(proxy.body, number, layer.keys[:, start:], positions)
            for number, layer in enumerate(kv)
        ]
        keys.append(torch.stack(layers).half().cpu())
    starts = np.cumsum([0, *(len(prompt.passage.ids) for prompt in prompts)])
    return torch.cat(keys, 2), starts


def _question_queries(
    proxy: Proxy, questions: Sequence[LabelledQuestion], report: Callable[[], None]
) -> tuple[Tensor, NDArray[np.int64]]:
    """Queries of the questions' own tokens, `[L, H, R, d]`, and where those of each begin."""
    layout, layers = proxy.layout, tuple(range(proxy.depth))
    queries = []
    for labelled in questions:
        tokens = layout.question_tokens(labelled.question)
        own = len(layout.tokenizer.encode(f" {labelled.question}"))
        states = next(iter(question_states(proxy, [tokens], layers, passage_tokens=0)))[:, :, :own]
        start = len(layout.opening) + tokens.first_row
        positions = torch.arange(start, start + own)
        unrotated = [
            remove_rotation(proxy.body, layer, states[layer], positions) for layer in layers
        ]
        queries.append(torch.stack(unrotated).cpu())
        report()
    return torch.cat(queries, 2), np.cumsum([0, *(part.shape[2] for part in queries)])


def chunk_scores(best: NDArray[np.float32], live: NDArray[np.bool_]) -> NDArray[np.float32]:
    """How far each chunk's best keys stand out among those of the live chunks: `[C]`, at least 0.

    Args:
        best: `[H, R, C]` of `max_similarities`. live: `[C]` bool.
    """
    return stand_out_scores(best, reference_of(best[..., live]))


def _head_scores(
    keys: Tensor, queries: Tensor, starts: NDArray[np.int64], rows: NDArray[np.int64]
) -> ScoreMatrix:
    """One head's score of every passage for every question: `[Q, P]`."""
    stored = (normalize(keys, dim=-1) * SCALE).round().to(torch.int8).numpy()
    live = np.ones(len(starts) - 1, bool)
    best = max_similarities(queries.numpy(), stored, starts, heads=1)
    return np.stack([chunk_scores(best[:, a:b], live) for a, b in pairwise(rows)])


def _mean_reciprocal_rank(scores: ScoreMatrix, questions: Sequence[LabelledQuestion]) -> float:
    """Mean reciprocal rank of the first passage that answers; equal scores share the worst rank."""
    ranks = [
        int((row >= row[list(question.gold)].max()).sum())
        for row, question in zip(scores, questions, strict=True)
    ]
    return float(np.mean([1 / rank for rank in ranks]))


def _select_greedily(
    alone: dict[Head, ScoreMatrix], questions: Sequence[LabelledQuestion], max_heads: int
) -> tuple[list[Head], float]:
    """The selected heads, ascending, and their mean reciprocal rank together."""
    selected: list[Head] = []
    total: ScoreMatrix = np.zeros_like(next(iter(alone.values())))
    reached = 0.0
    while len(selected) < max_heads:
        with_head = {
            head: _mean_reciprocal_rank(total + scores, questions)
            for head, scores in alone.items()
            if head not in selected
        }
        head = max(with_head, key=lambda h: with_head[h])
        if with_head[head] <= reached:
            break
        selected, total, reached = [*selected, head], total + alone[head], with_head[head]
    return sorted(selected), reached


def _make_recipe(
    proxy: Proxy, selected: Sequence[Head], means: dict[Head, tuple[Tensor, Tensor]], fitted_on: str
) -> KeyRecipe:
    def rounded_means(side: int) -> tuple[tuple[float, ...], ...]:
        return tuple(
            tuple(round(float(x), _DECIMALS) for x in means[head][side]) for head in selected
        )

    return KeyRecipe(
        proxy.card.name,
        proxy.card.revision,
        proxy.layout.template.name,
        tuple(selected),
        (1.0,) * len(selected),
        rounded_means(1),
        rounded_means(0),
        fitted_on,
    )
