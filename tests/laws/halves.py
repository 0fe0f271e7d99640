"""Hostile contexts cut down to half their tokens by every method: what the laws look at."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import product

import pytest

from tamis.compressors.pipeline.compression import Compressor
from tamis.compressors.types import Budget, Compressed, Rules
from tamis.probes.tokens import Tokens
from tests.laws.methods import WAYS, built
from tests.laws.texts import CONTEXTS, HOSTILE, QUESTION, SMALL
from tests.probes import tiny

RULES = {
    "plain": Rules(),
    "blocks": Rules(granularity="block"),
    "all shown": Rules(titles=True, citations="[{doc}:{id}:{unit}]", elision="[…]"),
    "all rules": Rules(
        protect=(r"\d",), context_window=1, dedup=0.8, order="edges", separator="\n---\n", top_n=2
    ),
}
THREADS = 8

every_way = pytest.mark.parametrize("way", WAYS)
every_context = pytest.mark.parametrize("context", CONTEXTS)
every_text = pytest.mark.parametrize("text", HOSTILE)
every_small = pytest.mark.parametrize("context", SMALL)


@cache
def counter() -> Tokens:
    """Not additive: its tokens straddle words and sentences."""
    return Tokens(tiny.tokenizer(), "tiny")


def compressor(way: str) -> Compressor:
    return Compressor(built(way).scorer, way, counter())


@cache
def half(way: str, context: str) -> Compressed:
    """A context cut down to half its tokens."""
    return halved(way, context, "plain")


def halved(way: str, context: str, rules: str) -> Compressed:
    return compressor(way).compress(QUESTION, CONTEXTS[context], Budget(ratio=0.5), RULES[rules])


@cache
def all_halves(way: str) -> list[tuple[str, str, Compressed]]:
    """Every context cut down under every set of rules; a large one under the plain ones alone."""
    plain = [(context, "plain", half(way, context)) for context in CONTEXTS]
    others = product(SMALL, set(RULES) - {"plain"})
    return plain + [(context, rules, halved(way, context, rules)) for context, rules in others]


def shown(out: Compressed) -> list[str]:
    """What was kept, sliced from the caller's own strings."""
    return [out.passages[kept.passage].text[kept.start : kept.stop] for kept in out.kept]


def essence(out: Compressed) -> Compressed:
    """All but the time it took."""
    return replace(out, timings_ms={})
