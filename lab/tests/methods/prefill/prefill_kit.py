"""A four-layer decoder, a prompt of five blocks, and its dense pass."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from lab.tests.methods.window_attention import kit
from tamis.probes.model.proxy import Proxy
from tamis_lab.methods.prefill.contract import Pattern, PromptShape
from tamis_lab.methods.prefill.prefill_pass import Prefilled, prefill
from tamis_lab.methods.registry import PATTERNS

LAYERS, OPENING, ROWS, TOKENS = 4, 6, 20, 300
PASSAGES = ((6, 80), (80, 150), (150, 276))


@lru_cache
def proxy() -> Proxy:
    return kit.proxy(0, LAYERS, context=512)


def ids(seed: int = 0, tokens: int = TOKENS) -> list[int]:
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(10, 200, (tokens,), generator=draw).tolist()


def shape(passages: tuple[tuple[int, int], ...] = PASSAGES, tokens: int = TOKENS) -> PromptShape:
    units = [(a, min(a + 14, stop)) for start, stop in passages for a in range(start, stop, 14)]
    return PromptShape(tokens, ROWS, LAYERS, torch.tensor(passages), torch.tensor(units))


def similarity() -> Tensor:
    """Layers that are the more alike, the nearer they are."""
    at = torch.arange(LAYERS)
    return 1 / (1 + (at[:, None] - at).abs())


def build(name: str, share: float) -> Pattern:
    return PATTERNS.load(name)(share, similarity())


def run(name: str, share: float, of: PromptShape | None = None) -> Prefilled:
    given = shape() if of is None else of
    return prefill(proxy(), ids(tokens=given.tokens), given, build(name, share).start(given))


@lru_cache
def dense() -> Prefilled:
    return prefill(proxy(), ids(), shape())
