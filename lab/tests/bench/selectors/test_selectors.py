"""The benchmark of selectors: what is captured, what is counted, and what is kept on disk."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tamis.probes.errors import BadInput
from tamis.probes.prompt import PassageTokens, Prompt, QuestionTokens
from tamis.probes.signal import Want
from tamis_lab.bench.selectors import (
    BUDGETS,
    HeadGroup,
    HeadMeasurement,
    SelectorCase,
    SelectorInputs,
    SelectorRun,
    SelectorSettings,
    StateCapture,
    UnitSpans,
    cheapest_effort,
    content_mask,
    effort_point,
    exact_reference,
    load_questions,
    load_text,
    measure_group,
    output_error,
    parse_heads,
    passage_spans,
    selector_row,
    whole_questions,
)
from tamis_lab.datasets.records import take_evenly
from tamis_lab.methods.kv_search.types import KeyHits
from tamis_lab.options.output_files import check_images
from tests.probes import tiny
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture for every test here
from tests.retrieval.approximate import clouds

QUESTIONS = ("who was there?", "where is the cat?", "why not?", "what is a sieve, and what for?")
# fp32 sums in another order
FP32 = 1e-5


def ignore_step(*step: Any) -> None:
    """A step callback that does nothing."""


def capture(folder: Path, heads: tuple = ((1, 0), (3, 3)), window: int = 10) -> StateCapture:
    return StateCapture(tiny.proxy(), heads, window, folder)


def case(count: int = 1500) -> SelectorCase:
    keys, questions = clouds.keys(count), torch.arange(40) // 8
    train, test = clouds.queries(300, seed=5), clouds.queries(40)
    return SelectorCase((2, 1), keys, train, test, keys.flip(1), questions)


def units_of(count: int) -> UnitSpans:
    """Units of 50 keys, in two passages."""
    at = torch.arange(count)
    return UnitSpans.from_numbers(at // 50, (at >= 700).long())


def measure(name: str, *cases: SelectorCase) -> list[HeadMeasurement]:
    count = len(cases[0].keys)
    references = [exact_reference(case, units_of(count)) for case in cases]
    spans = torch.tensor([[0, 700], [700, count]])
    return measure_group(HeadGroup(name, cases, references, spans), 0.95)


def test_keys_and_values_are_those_of_windows_read_alone_head_by_head(tmp_path: Path):
    reader, ids = capture(tmp_path), tiny.ids(27)
    found = reader.read_kv(ids, ignore_step)
    assert set(found) == {(1, 0), (3, 1)}  # query heads 0 and 3 of 4 read key heads 0 and 1 of 2
    opening, keys, values = len(reader.proxy.layout.opening), [], []
    for start in (0, 10, 20):
        prompt = Prompt(PassageTokens(tuple(ids[start : start + 10]), 0, ()), QuestionTokens((), 0))
        [kept] = reader.proxy.compute_kv([prompt], Want((3,)))
        keys.append(kept[3].keys[1, opening:])
        values.append(kept[3].values[1, opening:])
    torch.testing.assert_close(found[3, 1][0], torch.cat(keys), atol=FP32, rtol=0)
    torch.testing.assert_close(found[3, 1][1], torch.cat(values), atol=FP32, rtol=0)


def test_no_window_is_captured_twice_and_a_longer_text_continues_a_shorter_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    ids, read = tiny.ids(200), []
    reader = capture(tmp_path)
    first = reader.read_kv(ids[:160], ignore_step)
    compute_kv = reader.proxy.compute_kv
    monkeypatch.setattr(
        reader.proxy,
        "compute_kv",
        lambda prompts, want: read.extend(prompts) or compute_kv(prompts, want),
    )
    longer = reader.read_kv(ids, ignore_step)
    assert len(read) == 4  # 40 new tokens in windows of 10; eight windows are a shard
    torch.testing.assert_close(longer[1, 0][0][:160], first[1, 0][0])


@pytest.mark.parametrize("change", ["window", "ids"])
def test_another_window_size_or_text_is_captured_anew(tmp_path: Path, change: str):
    ids = tiny.ids(20)
    first = capture(tmp_path).read_kv(ids, ignore_step)[1, 0][0]
    if change == "ids":
        second = capture(tmp_path).read_kv(ids[::-1], ignore_step)[1, 0][0]
    else:
        second = capture(tmp_path, window=7).read_kv(ids, ignore_step)[1, 0][0]
    assert not torch.equal(first, second)


def test_another_head_is_added_to_its_shard(tmp_path: Path):
    ids = tiny.ids(20)
    first = capture(tmp_path).read_kv(ids, ignore_step)[1, 0][0]
    more = capture(tmp_path, heads=((1, 0), (2, 2))).read_kv(ids, ignore_step)
    assert torch.equal(more[1, 0][0], first)
    assert set(more) == {(1, 0), (2, 1)}
    assert len(list(tmp_path.glob("*.safetensors"))) == 1


def test_query_states_are_those_of_every_question_row_after_row(tmp_path: Path):
    reader = capture(tmp_path)
    asks = [reader.proxy.layout.question_tokens(question) for question in QUESTIONS]
    found = reader.read_queries(asks, ignore_step)
    rows = sum(len(ask.ids) - ask.first_row for ask in asks)
    assert {name: len(states) for name, states in found.items()} == {(1, 0): rows, (3, 3): rows}
    again = capture(tmp_path).read_queries(asks, ignore_step)
    assert all(torch.equal(found[head], again[head]) for head in found)


def test_tokens_without_a_letter_or_a_digit_have_no_content():
    texts = [" the", ".", "\n\n", "7", "é", " -", "的", ""]
    assert content_mask(texts).tolist() == [True, False, False, True, True, False, True, False]


@given(st.lists(st.integers(1, 500), min_size=1, max_size=12, unique=True), st.integers(1, 600))
def test_the_cheapest_effort_is_enough_unless_none_is(efforts: list[int], needed: int):
    efforts = sorted(efforts)
    found = cheapest_effort(efforts, lambda effort: effort >= needed)
    coarse = next((effort for effort in efforts if effort >= needed), efforts[-1])
    assert found <= coarse
    assert found >= needed or found == efforts[-1]


def test_recall_mass_and_share_by_hand():
    """By hand: a search that finds two of four keys."""
    keys = torch.tensor([[3.0], [2.0], [1.0], [0.0]])
    values = torch.tensor([[1.0, 0], [0, 1], [0, 1], [0, 0]])
    one = SelectorCase((0, 0), keys, keys, torch.ones(1, 1), values, torch.zeros(1))
    units = UnitSpans.from_numbers(torch.tensor([0, 0, 1, 2]), torch.zeros(4).long())
    reference = exact_reference(one, units)
    assert reference.ids.tolist() == [[0, 1, 2, 3]]
    some = effort_point(
        7, KeyHits(torch.tensor([[3.0, 0.0]]), torch.tensor([[0, 3]]), 3), one, reference
    )
    whole = torch.tensor([3.0, 2.0, 1.0, 0.0]).exp().sum()
    assert some.share_of_keys_read == 0.75
    assert some.attention_mass == pytest.approx(float((torch.e**3 + 1) / whole))
    assert some.recall_at_100 == 0.5
    exact = torch.tensor([torch.e**3, torch.e**2 + torch.e]) / whole
    kept = torch.tensor([torch.e**3 / (torch.e**3 + 1), 0])
    assert some.output_error == pytest.approx(float((kept - exact).norm() / exact.norm()))
    assert some.error_read == some.output_error
    # units: exact .44, .12, .04 in order; found .48, 0, .05
    assert some.unit_rho == pytest.approx(0.5)


def test_the_mean_of_all_values_takes_the_mass_that_was_not_read_by_hand():
    values, ids = torch.tensor([[4.0], [0.0]]), torch.tensor([[0]])
    hits = KeyHits(torch.tensor([[1.0]]), ids, 1, torch.tensor([0.75]))
    assert output_error(hits, values, torch.tensor([[3.5]])) == 0  # .75 * 4 + .25 * 2
    assert output_error(KeyHits(hits.scores, ids, 1), values, torch.tensor([[2.0]])) == 1


def test_units_are_ranked_in_the_passage_that_a_question_attends_to_most_by_hand():
    units = UnitSpans.from_numbers(
        torch.tensor([0, 1, 1, 2, 3, 4, 5]), torch.tensor([0, 0, 0, 0, 1, 1, 1])
    )
    assert units.passages.tolist() == [[0, 3], [3, 6]]
    weights = torch.tensor([[0.1, 0.2, 0.2, 0.3, 0.1, 0.1, 0], [0.1, 0, 0, 0.1, 0.1, 0.3, 0.4]])
    due = units.masses(units.sums(weights), torch.tensor([0, 1]))
    torch.testing.assert_close(due[0, :3], torch.tensor([0.1, 0.2, 0.3]))
    other = due.flip(1)
    assert units.rank_correlation(due, due) == pytest.approx(1)
    assert units.rank_correlation(other, due) == pytest.approx(0.75**0.5 / 2)  # of .87 and 0
    both = units.masses(units.sums(weights), torch.tensor([7, 7]))
    torch.testing.assert_close(both, due.mean(0, keepdim=True))


def test_heads_that_share_a_choice_are_measured_together_and_budgets_are_kept():
    [first, second] = measure("token_select", case(), replace(case(), head=(3, 0)))
    assert first.point.effort == second.point.effort
    assert (first.head, second.head) == ("2.1", "3.0")
    for name in ("token_select", "quest", "exact"):
        [head] = measure(name, case())
        for budget, point in zip(BUDGETS, head.budgets, strict=True):
            assert point is None or point.share_of_keys_read <= budget
    assert head.budgets == (None,) * len(BUDGETS)
    assert head.point.output_error < 1
    [blocks] = measure("moba", case())
    assert blocks.curve[-1].mass_read == pytest.approx(1, abs=1e-4)
    assert blocks.curve[-1].error_read == pytest.approx(0, abs=1e-4)
    assert blocks.curve[-1].unit_rho == pytest.approx(1)
    assert blocks.curve[-1].output_error == pytest.approx(head.point.output_error, abs=1e-4)


def test_rows_are_those_of_whole_questions_and_passages_are_spans_of_keys():
    questions = torch.arange(10).repeat_interleave(4)
    assert whole_questions(questions, 8).tolist() == [0, 1, 2, 3, 20, 21, 22, 23]
    assert whole_questions(questions, 6).tolist() == [0, 1, 2, 3, 20, 21]
    assert len(whole_questions(questions, 99)) == 40
    assert passage_spans(torch.tensor([0, 0, 3, 4, 4])).tolist() == [[0, 2], [2, 3], [3, 5]]


def test_a_row_is_the_mean_of_its_heads_each_at_its_own_effort():
    [exact], [clusters] = measure("exact", case()), measure("ivf", case())
    line = selector_row("mixed", 1500, 0.95, [exact, clusters])
    assert line["share_of_keys_read"] == pytest.approx((1 + clusters.point.share_of_keys_read) / 2)
    assert line["reached"]
    assert not selector_row("mixed", 1500, 1.01, [exact])["reached"]
    assert exact.point.recall_at_100 == 1
    assert clusters.curve[-1].recall_at_100 >= 0.95
    assert 0.95 <= clusters.point.recall_at_100 < 1
    assert clusters.point.share_of_keys_read < 1


def selector_inputs(folder: Path) -> SelectorInputs:
    for name, lines in (("asked", QUESTIONS[:2]), ("new", QUESTIONS[2:])):
        (folder / f"{name}.txt").write_text("\n".join((*lines, "", lines[0])))
    (folder / "text").mkdir()
    (folder / "text/a.txt").write_text("The cat sat on the mat, and then it ran to the inn. " * 8)
    return SelectorInputs((folder / "text",), (folder / "asked.txt",), (folder / "new.txt",))


def test_a_run_measures_every_selector_at_every_length_that_the_text_has(tmp_path: Path):
    settings = SelectorSettings((60, 150, 10_000), ("exact", "round"), ((1, 0), (2, 3)), 40, 12)
    report = SelectorRun(
        tiny.proxy(), selector_inputs(tmp_path), settings, tmp_path / "keys"
    ).report(ignore_step)
    available = len(tiny.proxy().layout.tokenizer.encode(load_text([tmp_path / "text"])).ids)
    lengths = [(line["selector"], line["tokens"]) for line in report["rows"]]
    assert lengths == [(name, n) for n in (60, 150, available) for name in ("exact", "round")]
    assert f"the text has {available:,} tokens and 10,000 were asked for" in report["notes"][0]
    assert report["test_queries"] == 12
    for line in report["rows"]:
        assert line["recall_at_100"] >= 0.95
        assert len(line["heads"]) == 2
    json.dumps(report)


def test_texts_and_questions_come_from_records_files_and_folders_each_once(tmp_path: Path):
    docs = [{"title": "Cats", "text": "They purr."}, {"text": "Dogs bark."}]
    lines = [json.dumps({"question": q, "docs": docs}) for q in QUESTIONS[:2]]
    (tmp_path / "r.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    (tmp_path / "t.txt.gz").write_bytes(gzip.compress(b"Birds sing."))
    found = load_text([tmp_path / "r.jsonl.gz", tmp_path / "t.txt.gz"])
    assert found == "Cats\nThey purr.\n\nDogs bark.\n\nBirds sing."
    assert load_questions([tmp_path / "r.jsonl.gz"] * 2) == list(QUESTIONS[:2])


def test_what_cannot_be_measured_is_refused(tmp_path: Path):
    (tmp_path / "empty.txt").write_text("\n\n")
    none, odd_head = SelectorInputs((), (), ()), SelectorSettings((5,), ("exact",), ((0, 4),))
    (tmp_path / "r.jsonl").write_text('{"docs": []}')
    for call, message in (
        (lambda: load_questions([tmp_path / "empty.txt"]), "no questions in"),
        (lambda: load_questions([tmp_path / "none.txt"]), "cannot be read"),
        (lambda: load_questions([tmp_path / "r.jsonl"]), "line 1: a record without a 'question'"),
        (lambda: load_text([tmp_path / "none.txt"]), "no file or folder"),
        (lambda: parse_heads(["14-3"]), "'14-3' is no head"),
        (lambda: parse_heads(["1.2", "1.2"]), "given twice"),
        (lambda: SelectorSettings((5,), ("exact",), ((0, 0),), recall=1.5), "recall is 1.5"),
        (lambda: SelectorSettings((0,), ("exact",), ((0, 0),)), "positive"),
        (lambda: SelectorRun(tiny.proxy(), none, odd_head, tmp_path), "are 0 to 3"),
        (lambda: check_images(tmp_path / "plot.bmp"), "draw a .png"),
        (lambda: check_images(tmp_path / "none/plot.png"), "no folder"),
    ):
        with pytest.raises(BadInput, match=message):
            call()


def test_items_are_taken_at_even_distances():
    assert take_evenly(range(10), 3) == [0, 3, 6]
    assert take_evenly(range(3), 10) == [0, 1, 2]
