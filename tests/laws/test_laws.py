"""The laws of what is kept: every file in compressors/methods/, on every hostile text."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

from tamis.compressors.selection.rendering import given, render
from tamis.compressors.types import Budget, Compressed, Rules
from tamis.probes.errors import BudgetTooSmall
from tamis.probes.text import Unit
from tests.laws.halves import (
    RULES,
    THREADS,
    all_halves,
    compressor,
    counter,
    essence,
    every_context,
    every_small,
    every_text,
    every_way,
    half,
    halved,
    shown,
)
from tests.laws.methods import CHUNK_TOKENS, WAYS, built
from tests.laws.texts import CONTEXTS, HOSTILE, LINE_CHARS, QUESTION, READ_CHARS, SMALL, line
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture that acts by itself


def step(units: Sequence[Unit], u: int) -> set[int]:
    """A unit, and the header above it if it is a row of a table."""
    above = u
    while units[above].kind == "table_row" and above > 0:
        above -= 1
    return {u, above} if units[above].kind == "table_header" else {u}


@every_way
def test_a_way_builds_the_method_it_names(way: str):
    module = type(built(way).scorer).__module__
    assert module == f"tamis.compressors.methods.{WAYS[way].method}"


@every_way
def test_what_is_kept_stands_in_the_text_verbatim(way: str):
    for context, _, out in all_halves(way):
        assert out.passages == CONTEXTS[context]
        for kept, text in zip(out.kept, shown(out), strict=True):
            assert text, context
            assert text == text.strip(), context
            assert text in out.text, context
            assert (kept.start, kept.stop) == out.units[kept.unit].visible


@every_way
def test_what_is_kept_comes_in_order_and_nothing_else_does(way: str):
    """White space aside, the text is the kept slices one after the other, and no more."""
    for context in CONTEXTS:
        out = half(way, context)
        assert "".join(out.text.split()) == "".join("".join(shown(out)).split()), context


@every_way
def test_kept_spans_are_in_order_and_disjoint(way: str):
    for context, rules, out in all_halves(way):
        for here, after in pairwise(out.kept):
            assert here.unit < after.unit, (context, rules)
            assert (here.passage, here.stop) <= (after.passage, after.start), (context, rules)


@every_way
def test_the_joined_text_is_within_the_budget(way: str):
    for context, rules, out in all_halves(way):
        assert counter().count(out.text) <= out.tokens_in // 2, (context, rules)


@every_way
def test_counts_are_honest(way: str):
    for context, rules, out in all_halves(way):
        everything = given(out.passages, out.units, RULES[rules])
        assert out.tokens_out == counter().count(out.text), (context, rules)
        assert out.tokens_in == counter().count(everything), (context, rules)
        assert out.tokenizer == "tiny"


@every_context
@every_way
def test_a_generous_budget_changes_nothing_and_asks_no_model(way: str, context: str):
    before = built(way).calls
    out = compressor(way).compress(QUESTION, CONTEXTS[context], Budget(ratio=1.0))
    texts = [passage.text for passage in CONTEXTS[context]]
    assert out.text == "\n\n".join(text for text in texts if text)
    assert out.status == "passthrough"
    assert built(way).calls == before


@every_small
@every_way
def test_the_same_request_has_the_same_answer(way: str, context: str):
    again = halved(way, context, "plain")
    assert essence(again) == essence(half(way, context))


@every_small
@every_way
def test_no_unit_that_was_left_out_would_still_fit(way: str, context: str):
    """By brute force: each is added and the whole rendered again; a table row brings its header."""
    out = half(way, context)
    kept = {k.unit for k in out.kept}
    for u in set(range(len(out.units))) - kept:
        fuller = render(out.passages, out.units, kept | step(out.units, u), Rules())
        assert counter().count(fuller) > out.tokens_in // 2


@every_text
@every_way
def test_a_text_alone_fits_or_is_refused(way: str, text: str):
    """From one token up: never more than the budget, never a cut unit."""
    for limit in (1, 7, 40):
        try:
            out = compressor(way).compress(QUESTION, [HOSTILE[text]], Budget(max_tokens=limit))
        except BudgetTooSmall:
            continue
        assert counter().count(out.text) == out.tokens_out <= limit
        assert all(part in HOSTILE[text] for part in shown(out))


@every_way
def test_threads_do_not_disturb_each_other(way: str):
    """Eight threads start at different contexts, so that unlike requests meet."""
    order = list(SMALL)[::2]

    def run(first: int) -> dict[str, Compressed]:
        turned = order[first:] + order[:first]
        return {name: essence(halved(way, name, "plain")) for name in turned}

    with ThreadPoolExecutor(THREADS) as pool:
        for found in pool.map(run, range(THREADS)):
            assert found == {name: essence(half(way, name)) for name in order}


@every_way
def test_a_line_without_end_is_read_in_windows_and_kept_in_parts(way: str):
    """A million characters for methods without a model, 200,000 for those with one."""
    reads = WAYS[way].looks
    text = line(READ_CHARS if built(way).models else LINE_CHARS)
    out = compressor(way).compress(QUESTION, [text], Budget(max_tokens=2_000))
    assert counter().count(out.text) == out.tokens_out <= 2_000
    assert all(part in text for part in shown(out))
    assert out.windows >= (READ_CHARS // CHUNK_TOKENS if reads else 0)
