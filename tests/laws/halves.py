"""Hostile contexts compressed to half their tokens by every method: what the laws examine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache, wraps
from inspect import signature
from itertools import product
from typing import Any

import pytest

from tamis.compressors.pipeline.compression import Compressor
from tamis.compressors.rules import Budget, Rules
from tamis.compressors.types import Compressed
from tamis.probes.tokens import TextTokenizer
from tests.laws.methods import VARIANTS, build_variant
from tests.laws.texts import CONTEXTS, HOSTILE, QUESTION, SMALL_CONTEXTS
from tests.probes import tiny

RULES = {
    "plain": Rules(),
    "filled": Rules(fill=True, dedup=None),
    "blocks": Rules(granularity="block"),
    "documents": Rules(granularity="document"),
    "all shown": Rules(titles=True, citations="[{doc}:{id}:{unit}]", elision="[…]"),
    "all rules": Rules(
        protect=(r"\d",), context_window=1, dedup=0.8, order="edges", separator="\n---\n", top_n=2
    ),
}
THREADS = 8


def for_each(
    name: str, values: Iterable[str]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Runs a law for each value of one of its parameters, in one test; a failure names the value.

    A test of its own for each of some 4,000 took longer than most of what they check.
    """

    def decorate(law: Callable[..., None]) -> Callable[..., None]:
        @wraps(law)
        def run(**given: Any) -> None:
            for value in values:
                try:
                    law(**given, **{name: value})
                except Exception as error:
                    error.add_note(f"with {name} = {value!r}")
                    raise

        has = signature(law)
        others = [one for one in has.parameters.values() if one.name != name]
        run.__signature__ = has.replace(parameters=others)
        return run

    return decorate


every_variant = pytest.mark.parametrize("variant", VARIANTS)
every_context = for_each("context", CONTEXTS)
every_text = for_each("text", HOSTILE)
every_small_context = for_each("context", SMALL_CONTEXTS)


@cache
def counter() -> TextTokenizer:
    """Not additive: its tokens straddle words and sentences."""
    return TextTokenizer(tiny.tokenizer(), "tiny")


def compressor(variant: str) -> Compressor:
    return Compressor(build_variant(variant).scorer, variant, counter())


@cache
def compressed_half(variant: str, context: str) -> Compressed:
    """A context compressed to half its tokens under plain rules, computed once."""
    return compress_to_half(variant, context, "plain")


def compress_to_half(variant: str, context: str, rules: str) -> Compressed:
    """A context compressed to half its tokens under a set of rules."""
    return compressor(variant).compress(
        QUESTION, CONTEXTS[context], Budget(ratio=0.5), RULES[rules]
    )


@cache
def all_compressed_halves(variant: str) -> list[tuple[str, str, Compressed]]:
    """Every context compressed under every set of rules; large ones under the plain rules alone."""
    plain = [(context, "plain", compressed_half(variant, context)) for context in CONTEXTS]
    others = product(SMALL_CONTEXTS, set(RULES) - {"plain"})
    return plain + [
        (context, rules, compress_to_half(variant, context, rules)) for context, rules in others
    ]


def kept_texts(out: Compressed) -> list[str]:
    """The kept slices of the caller's own strings."""
    return [out.passages[kept.passage].text[kept.start : kept.stop] for kept in out.kept]


def without_timings(out: Compressed) -> Compressed:
    """The result without its timings."""
    return replace(out, timings_ms={})
