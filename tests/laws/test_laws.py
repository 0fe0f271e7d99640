"""The laws: every method in compressors/, on every hostile text, with scripted signals.

The laws that speak of batches run on a tiny random decoder as well: there a batch is a real one.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from itertools import pairwise, product
from typing import Any

import pytest

from tamis.compressors._in_context import EMPTY_QUERY
from tamis.compressors._pipeline import Compressor
from tamis.compressors._registry import names
from tamis.compressors._render import render, whole
from tamis.compressors._types import Budget, Compressed, Rules, Scores
from tamis.compressors.evaluator_heads import EvaluatorHeads
from tamis.compressors.infini import Infini
from tamis.compressors.question_rows import QuestionRows
from tamis.compressors.raw_attention import RawAttention
from tamis.compressors.sentinel import Sentinel
from tamis.probes.errors import BudgetTooSmall
from tamis.probes.segment import units_of
from tamis.probes.text import Passage, Unit
from tamis.probes.tokens import Tokens, encodable
from tests.laws.methods import (
    ALONE,
    CHUNK_TOKENS,
    LOOKING,
    WAYS,
    built,
    head_profile,
    question_probe,
    sentinel_probe,
)
from tests.laws.texts import (
    CONTEXTS,
    HOSTILE,
    LINE_CHARS,
    NEEDLE,
    OTHER,
    PLAIN,
    QUESTION,
    READ_CHARS,
    SMALL,
    Context,
    among,
    line,
)
from tests.probes import tiny
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture that acts by itself

SAME = 1e-5
"""How far scores may lie apart that are the same but for batches and the order of sums in fp32."""

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


def step(units: Sequence[Unit], u: int) -> set[int]:
    """A unit, and the header above it if it is a row of a table."""
    above = u
    while units[above].kind == "table_row" and above > 0:
        above -= 1
    return {u, above} if units[above].kind == "table_header" else {u}


def scores(scorer: Any, given: Context) -> Scores:
    return scorer.scores(QUESTION, given, units_of(given))


def by_unit(seen: Scores, given: Context) -> list[tuple[str, int, float]]:
    """Each unit's value under its text and place, whatever the order of passages."""
    return [
        (given[unit.passage].text, unit.start, value)
        for unit, value in zip(units_of(given), seen.values, strict=True)
    ]


def assert_same(here: list[tuple[str, int, float]], there: list[tuple[str, int, float]]) -> None:
    for (*unit, value), (*other, due) in zip(sorted(here), sorted(there), strict=True):
        assert unit == other
        assert value == pytest.approx(due, abs=SAME)


def test_every_method_is_under_the_laws():
    lawless = set(names()) - {way.method for way in WAYS.values()}
    assert not lawless, f"add a way to build {sorted(lawless)} to WAYS in tests/laws/methods.py"


@every_way
def test_a_way_builds_the_method_it_names(way: str):
    module = type(built(way).scorer).__module__
    assert module == f"tamis.compressors.{WAYS[way].method}"


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
        everything = whole(out.passages, out.units, RULES[rules])
        assert out.tokens_out == counter().count(out.text), (context, rules)
        assert out.tokens_in == counter().count(everything), (context, rules)
        assert out.tokenizer == "tiny"


@every_context
@every_way
def test_a_generous_budget_changes_nothing_and_asks_no_model(way: str, context: str):
    before = built(way).calls
    out = compressor(way).compress(QUESTION, CONTEXTS[context], Budget(ratio=1.0))
    texts = [passage.text.strip() for passage in CONTEXTS[context]]
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


@every_context
@every_way
def test_every_unit_and_passage_has_one_finite_score(way: str, context: str):
    given = CONTEXTS[context]
    seen = scores(built(way).scorer, given)
    assert len(seen.values) == len(units_of(given))
    assert len(seen.passages) == len(given)
    assert all(abs(value) < float("inf") for value in (*seen.values, *seen.passages))
    assert not seen.calibrated or all(0 <= value <= 1 for value in seen.values)


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


@every_text
@pytest.mark.parametrize("way", LOOKING)
def test_what_the_script_points_at_is_found(way: str, text: str):
    """Among hostile neighbours, with room for one sentence, the needle is the one."""
    given = [
        Passage(OTHER),
        Passage(f"{PLAIN} {NEEDLE} {OTHER}"),
        Passage(HOSTILE[text]),
        Passage(PLAIN),
    ]
    out = compressor(way).compress(QUESTION, given, Budget(max_tokens=counter().count(NEEDLE)))
    assert out.text == NEEDLE
    assert max(range(len(given)), key=out.passage_scores.__getitem__) == 1


@every_text
@pytest.mark.parametrize("way", LOOKING)
def test_text_is_data(way: str, text: str):
    """What the model reads is the caller's text and question, special tokens and NUL included.

    Some methods also ask an empty question of the same text.
    """
    reader = next(model for model in built(way).models if hasattr(model, "layout"))
    before = reader.prompts_read
    asked = f"{QUESTION} {HOSTILE[text]}"
    given = (Passage(PLAIN), Passage(HOSTILE[text]))
    built(way).scorer.scores(asked, given, units_of(given))
    read = reader.seen[before:]
    assert {question for question, _ in read} - {EMPTY_QUERY} == {encodable(asked)}
    for unit in units_of(given):
        part = encodable(given[unit.passage].text[slice(*unit.visible)])
        assert any(part in passage for _, passage in read)


@every_small
@pytest.mark.parametrize("way", ALONE)
def test_the_order_of_passages_changes_no_score_of_units_read_alone(way: str, context: str):
    given = CONTEXTS[context]
    turned = given[::-1]
    here, there = (scores(built(way).scorer, order) for order in (given, turned))
    assert_same(by_unit(here, given), by_unit(there, turned))


@every_small
@pytest.mark.parametrize("way", ALONE)
def test_no_passage_moves_the_score_of_another_that_is_read_alone(way: str, context: str):
    given = CONTEXTS[context]
    crowd = (*given, Passage(f"{NEEDLE} {NEEDLE}", title=QUESTION), Passage(HOSTILE["Markdown"]))
    alone = by_unit(scores(built(way).scorer, given), given)
    beside = by_unit(scores(built(way).scorer, crowd), crowd)
    assert_same(alone, beside[: len(alone)])


@cache
def tiny_scorers(batch_tokens: int) -> dict[str, Any]:
    """Methods over a random decoder of four layers, which packs up to so many tokens."""
    proxy = tiny.proxy(batch_tokens=batch_tokens)
    probe = question_probe(proxy)
    return {
        "question_rows": QuestionRows(proxy, probe),
        "question_rows isolated": QuestionRows(proxy, probe, isolated=True),
        "question_rows untrained": QuestionRows(proxy, None),
        "sentinel": Sentinel(proxy, sentinel_probe(proxy), chunk_tokens=128),
        "raw_attention": RawAttention(proxy, window_tokens=128),
        "evaluator_heads": EvaluatorHeads(proxy, head_profile(proxy), heads=2),
        "infini independent": Infini(proxy, "independent", window_tokens=128, carry_tokens=128),
    }


@pytest.mark.parametrize("text", ["Markdown", "lone surrogates", "special tokens", "right to left"])
@pytest.mark.parametrize("way", tiny_scorers.__wrapped__(1))
def test_windows_read_one_by_one_and_packed_score_alike(way: str, text: str):
    given = among(HOSTILE[text])
    single, packed = (scores(tiny_scorers(size)[way], given) for size in (1, 4096))
    assert single.windows == packed.windows > 1
    assert single.values == pytest.approx(packed.values, abs=SAME)


def test_threads_that_share_a_model_do_not_disturb_each_other():
    scorer = tiny_scorers(4096)["question_rows"]
    contexts = [among(HOSTILE[text]) for text in ("Markdown", "HTML", "emoji and joiners", "code")]

    def run(context: Context) -> tuple[float, ...]:
        return scores(scorer, context).values

    due = [run(context) for context in contexts]
    with ThreadPoolExecutor(THREADS) as pool:
        for found, expected in zip(pool.map(run, contexts * 3), due * 3, strict=True):
            assert found == pytest.approx(expected, abs=SAME)


@every_way
def test_a_line_without_end_is_read_in_windows_and_kept_in_parts(way: str):
    """A million characters for methods without a model, 200,000 for those with one."""
    reads = WAYS[way].looks
    text = line(READ_CHARS if built(way).models else LINE_CHARS)
    out = compressor(way).compress(QUESTION, [text], Budget(max_tokens=2_000))
    assert counter().count(out.text) == out.tokens_out <= 2_000
    assert all(part in text for part in shown(out))
    assert out.windows >= (READ_CHARS // CHUNK_TOKENS if reads else 0)
