"""The laws of scores: finite, of the text alone, and the same whatever is in the batch.

The laws about batches run on a tiny random decoder as well, where a batch is a real one.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import pytest

from tamis.compressors.methods.ehpc import EHPC
from tamis.compressors.methods.infiniretri import InfiniRetri
from tamis.compressors.methods.question_rows import QuestionRows
from tamis.compressors.methods.sentinel import Sentinel
from tamis.compressors.reading.windows import EMPTY_QUERY
from tamis.compressors.rules import Budget
from tamis.compressors.types import Scores
from tamis.probes.tokens import replace_surrogates
from tamis.text.types import Passage
from tamis.text.units.segment import units_of
from tests.laws.halves import (
    THREADS,
    compressor,
    counter,
    every_context,
    every_small_context,
    every_text,
    every_variant,
)
from tests.laws.methods import (
    ISOLATED_VARIANTS,
    SCRIPT_FOLLOWERS,
    build_variant,
    head_profile,
    question_probe,
    sentinel_probe,
)
from tests.laws.texts import (
    CONTEXTS,
    HOSTILE,
    NEEDLE,
    OTHER,
    PLAIN,
    QUESTION,
    Context,
    between_plain_passages,
)
from tests.probes import tiny
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture that acts by itself

SAME = 1e-5
"""How much scores may differ that are the same but for batches and the order of sums in fp32."""


def scores(scorer: Any, given: Context) -> Scores:
    return scorer.scores(QUESTION, given, units_of(given))


def by_unit(found: Scores, given: Context) -> list[tuple[str, int, float]]:
    """Each unit's value under its text and place, whatever the order of passages."""
    return [
        (given[unit.passage].text, unit.start, value)
        for unit, value in zip(units_of(given), found.values, strict=True)
    ]


def assert_same(here: list[tuple[str, int, float]], there: list[tuple[str, int, float]]) -> None:
    for (*unit, value), (*other, due) in zip(sorted(here), sorted(there), strict=True):
        assert unit == other
        assert value == pytest.approx(due, abs=SAME)


@every_context
@every_variant
def test_every_unit_and_passage_has_one_finite_score(variant: str, context: str):
    given = CONTEXTS[context]
    found = scores(build_variant(variant).scorer, given)
    assert len(found.values) == len(units_of(given))
    assert len(found.passages) == len(given)
    assert all(abs(value) < float("inf") for value in (*found.values, *found.passages))
    assert not found.calibrated or all(0 <= value <= 1 for value in found.values)


@every_text
@pytest.mark.parametrize("variant", SCRIPT_FOLLOWERS)
def test_what_the_script_points_at_is_found(variant: str, text: str):
    """Among hostile neighbours, with room for one sentence, the needle is the one."""
    given = [
        Passage(OTHER),
        Passage(f"{PLAIN} {NEEDLE} {OTHER}"),
        Passage(HOSTILE[text]),
        Passage(PLAIN),
    ]
    out = compressor(variant).compress(QUESTION, given, Budget(max_tokens=counter().count(NEEDLE)))
    assert out.text == NEEDLE
    assert max(range(len(given)), key=out.passage_scores.__getitem__) == 1


@every_text
@pytest.mark.parametrize("variant", SCRIPT_FOLLOWERS)
def test_text_is_data(variant: str, text: str):
    """What the model reads is the caller's text and question, special tokens and NUL included.

    Some methods also read an empty question with the same text.
    """
    reader = next(model for model in build_variant(variant).models if hasattr(model, "layout"))
    before = reader.prompts_read
    hostile_question = f"{QUESTION} {HOSTILE[text]}"
    given = (Passage(PLAIN), Passage(HOSTILE[text]))
    build_variant(variant).scorer.scores(hostile_question, given, units_of(given))
    read = reader.read_log[before:]
    assert {question for question, _ in read} - {EMPTY_QUERY} == {
        replace_surrogates(hostile_question)
    }
    for unit in units_of(given):
        part = replace_surrogates(given[unit.passage].text[slice(*unit.visible)])
        assert any(part in passage for _, passage in read)


@every_small_context
@pytest.mark.parametrize("variant", ISOLATED_VARIANTS)
def test_the_order_of_passages_changes_no_score_of_units_read_alone(variant: str, context: str):
    given = CONTEXTS[context]
    reversed_passages = given[::-1]
    here, there = (
        scores(build_variant(variant).scorer, order) for order in (given, reversed_passages)
    )
    assert_same(by_unit(here, given), by_unit(there, reversed_passages))


@every_small_context
@pytest.mark.parametrize("variant", ISOLATED_VARIANTS)
def test_no_passage_changes_the_score_of_another_that_is_read_alone(variant: str, context: str):
    given = CONTEXTS[context]
    crowd = (*given, Passage(f"{NEEDLE} {NEEDLE}", title=QUESTION), Passage(HOSTILE["Markdown"]))
    alone = by_unit(scores(build_variant(variant).scorer, given), given)
    beside = by_unit(scores(build_variant(variant).scorer, crowd), crowd)
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
        "ehpc": EHPC(proxy, head_profile(proxy), heads=2),
        "infiniretri independent": InfiniRetri(
            proxy, "independent", window_tokens=128, carry_tokens=128, heads=0
        ),
    }


@pytest.mark.parametrize("text", ["Markdown", "lone surrogates", "special tokens", "right to left"])
@pytest.mark.parametrize("variant", tiny_scorers.__wrapped__(1))
def test_windows_read_one_by_one_and_packed_score_alike(variant: str, text: str):
    given = between_plain_passages(HOSTILE[text])
    single, packed = (scores(tiny_scorers(size)[variant], given) for size in (1, 4096))
    assert single.windows == packed.windows > 1
    assert single.values == pytest.approx(packed.values, abs=SAME)


def test_threads_that_share_a_model_do_not_disturb_each_other():
    scorer = tiny_scorers(4096)["question_rows"]
    contexts = [
        between_plain_passages(HOSTILE[text])
        for text in ("Markdown", "HTML", "emoji and joiners", "code")
    ]

    def run(context: Context) -> tuple[float, ...]:
        return scores(scorer, context).values

    due = [run(context) for context in contexts]
    with ThreadPoolExecutor(THREADS) as pool:
        for found, expected in zip(pool.map(run, contexts * 3), due * 3, strict=True):
            assert found == pytest.approx(expected, abs=SAME)
