"""The laws of what is kept: every file in compressors/methods/, on every hostile text."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

from tamis.compressors.registry import method_class
from tamis.compressors.rules import WORTHLESS, Budget, Rules
from tamis.compressors.selection.rendering import Renderer, render_without_citations
from tamis.compressors.selection.select import RELATIVE_FLOOR, Selector
from tamis.compressors.types import Compressed
from tamis.probes.errors import BudgetTooSmall
from tamis.text.types import Unit
from tests.compressors.selection.test_nested import first_budget, taken_in_order
from tests.laws.halves import (
    RULES,
    THREADS,
    all_compressed_halves,
    compress_to_half,
    compressed_half,
    compressor,
    counter,
    every_context,
    every_small_context,
    every_text,
    every_variant,
    kept_texts,
    without_timings,
)
from tests.laws.methods import CHUNK_TOKENS, VARIANTS, build_variant
from tests.laws.texts import (
    CONTEXTS,
    HOSTILE,
    LINE_CHARS,
    QUESTION,
    READ_CHARS,
    SMALL_CONTEXTS,
    endless_line,
)
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture that acts by itself


def with_header(units: Sequence[Unit], u: int) -> set[int]:
    """A unit, and the header above it if it is a row of a table."""
    above = u
    while units[above].kind == "table_row" and above > 0:
        above -= 1
    return {u, above} if units[above].kind == "table_header" else {u}


def selector_of(variant: str, context: str) -> tuple[Selector, Compressed]:
    """Chooses from what was read to compress a context to half, which is returned, too."""
    half = compressed_half(variant, context)
    passages, units, scores = half.passages, half.units, [0.0] * len(half.passages)
    values, calibrated = half.scores, half.calibrated
    return Selector(
        passages, units, values, scores, Rules(), counter(), calibrated=calibrated
    ), half


def left_out_units(out: Compressed) -> list[tuple[int, int]]:
    """Each unit that was left out, and by how many tokens it is too long for half of the input."""
    kept, rules = {k.unit for k in out.kept}, Rules()
    found = []
    for u in set(range(len(out.units))) - kept:
        group = kept | with_header(out.units, u)
        fuller = Renderer(out.passages, out.units, rules).text(group)
        found.append((u, counter().count(fuller) - out.tokens_in // 2))
    return found


@every_variant
def test_a_variant_builds_the_method_it_names(variant: str):
    assert type(build_variant(variant).scorer) is method_class(VARIANTS[variant].method)


@every_variant
def test_what_is_kept_is_in_the_text_verbatim(variant: str):
    for context, _, out in all_compressed_halves(variant):
        assert out.passages == CONTEXTS[context]
        for kept, text in zip(out.kept, kept_texts(out), strict=True):
            assert text, context
            assert text == text.strip(), context
            assert text in out.text, context
            assert (kept.start, kept.stop) == out.units[kept.unit].visible


@every_variant
def test_what_is_kept_comes_in_order_and_nothing_else_does(variant: str):
    """White space aside, the text is the kept slices one after the other, and no more."""
    for context in CONTEXTS:
        out = compressed_half(variant, context)
        assert "".join(out.text.split()) == "".join("".join(kept_texts(out)).split()), context


@every_variant
def test_kept_spans_are_in_order_and_disjoint(variant: str):
    for context, rules, out in all_compressed_halves(variant):
        for here, after in pairwise(out.kept):
            assert here.unit < after.unit, (context, rules)
            assert (here.passage, here.stop) <= (after.passage, after.start), (context, rules)


@every_variant
def test_the_joined_text_is_within_the_budget(variant: str):
    for context, rules, out in all_compressed_halves(variant):
        assert counter().count(out.text) <= out.tokens_in // 2, (context, rules)


@every_variant
def test_counts_are_those_of_the_counter(variant: str):
    for context, rules, out in all_compressed_halves(variant):
        everything = render_without_citations(out.passages, out.units, RULES[rules])
        assert out.tokens_out == counter().count(out.text), (context, rules)
        assert out.tokens_in == counter().count(everything), (context, rules)
        assert out.tokenizer == "tiny"


@every_context
@every_variant
def test_a_generous_budget_changes_nothing_and_runs_no_model(variant: str, context: str):
    before = build_variant(variant).calls
    out = compressor(variant).compress(QUESTION, CONTEXTS[context], Budget(ratio=1.0))
    texts = [passage.text for passage in CONTEXTS[context]]
    assert out.text == "\n\n".join(text for text in texts if text)
    assert out.status == "passthrough"
    assert build_variant(variant).calls == before


@every_small_context
@every_variant
def test_the_same_request_has_the_same_answer(variant: str, context: str):
    again = compress_to_half(variant, context, "plain")
    assert without_timings(again) == without_timings(compressed_half(variant, context))


@every_small_context
@every_variant
def test_no_unit_that_was_left_out_would_still_fit(variant: str, context: str):
    """By brute force: each is added and the whole rendered again; a table row brings its header."""
    for u, tokens in left_out_units(compress_to_half(variant, context, "filled")):
        assert tokens > 0, u


@every_small_context
@every_variant
def test_where_there_is_room_only_what_is_of_no_use_is_left_out(variant: str, context: str):
    """What is most likely of no use, has no content, leads to nothing or repeats a kept unit."""
    of, half = selector_of(variant, context)
    kept = of.select(Budget(max_tokens=100_000)).units
    groups, worths = of._packer.groups, of.worths
    texts = [half.passages[u.passage].text[slice(*u.visible)].split() for u in half.units]
    kept_words = [{*texts[u]} for u in kept]
    for u in {*range(len(half.units))} - {*kept}:
        is_worthless = half.calibrated and worths[u] < max(WORTHLESS, RELATIVE_FLOOR * max(worths))
        is_empty = u in groups or u in groups.vain
        assert is_worthless or is_empty or {*texts[u]} in kept_words


@every_small_context
@every_variant
def test_what_is_taken_in_order_is_kept_under_every_larger_budget(variant: str, context: str):
    """Of the same units: those that a small budget has no room for are cut before they are read."""
    of, half = selector_of(variant, context)
    if not half.units:
        return
    before: set[int] = set()
    for limit in range(max(1, first_budget(of)), half.tokens_in + 20, 5):
        now = {*of.select(Budget(max_tokens=limit)).units}
        assert before <= now, limit
        before = taken_in_order(of, Budget(max_tokens=limit))


@every_text
@every_variant
def test_a_single_text_fits_or_is_refused(variant: str, text: str):
    """From one token up: never more than the budget, never a cut unit."""
    for limit in (1, 7, 40):
        try:
            out = compressor(variant).compress(QUESTION, [HOSTILE[text]], Budget(max_tokens=limit))
        except BudgetTooSmall:
            continue
        assert counter().count(out.text) == out.tokens_out <= limit
        assert all(part in HOSTILE[text] for part in kept_texts(out))


@every_variant
def test_threads_do_not_disturb_each_other(variant: str):
    """Eight threads start at different contexts, so that different requests run at once."""
    order = list(SMALL_CONTEXTS)[::2]

    def run(first: int) -> dict[str, Compressed]:
        rotated = order[first:] + order[:first]
        return {name: without_timings(compress_to_half(variant, name, "plain")) for name in rotated}

    with ThreadPoolExecutor(THREADS) as pool:
        for found in pool.map(run, range(THREADS)):
            assert found == {
                name: without_timings(compressed_half(variant, name)) for name in order
            }


@every_variant
def test_a_line_without_end_is_read_in_windows_and_kept_in_parts(variant: str):
    """A million characters for methods without a model, 200,000 for those with one."""
    reads = VARIANTS[variant].follows_script
    text = endless_line(READ_CHARS if build_variant(variant).models else LINE_CHARS)
    out = compressor(variant).compress(QUESTION, [text], Budget(max_tokens=2_000))
    assert counter().count(out.text) == out.tokens_out <= 2_000
    assert all(part in text for part in kept_texts(out))
    assert out.windows >= (READ_CHARS // CHUNK_TOKENS if reads else 0)
