"""Ways of reading: features and costs of each; survivors are chosen without their own article."""

from __future__ import annotations

import json

import pytest
import torch

from lab.tests.bench.records import doc, record, write
from lab.tests.train.lora.examples import example_records
from tamis.compressors.features.words import HOP_FEATURES, WORD_FEATURES
from tamis.compressors.methods.question_rows import QuestionRows
from tamis.compressors.reading.windows import Reading, split_windows
from tamis.probes.errors import BadInput
from tamis.probes.kv_cache.cache import CachedReader, PassageCache
from tamis_lab.bench.hops import (
    NO_FOLD,
    WAYS,
    PassagePacks,
    PassagesAlone,
    WayReader,
    WayWeights,
    _gain_over_reference,
    count_joined_tokens,
    extend_question,
    log_shares,
    order_ways,
    pack_windows,
    readable_records,
    training_case,
)
from tamis_lab.datasets.record_files import RecordFile, fold_of
from tamis_lab.datasets.records import annotated_units, passages_of
from tamis_lab.train.probe.answerability import CrossFitWeights
from tests.probes import tiny
from tests.probes.tiny import one_thread  # noqa: F401
from tests.service.cli.cli_kit import tamis

LAYERS = tiny.LAYERS
FEATURES = 2 * LAYERS * tiny.HEADS
WIDE = {"rtol": 2e-3, "atol": 2e-3}
"""Features are logs, kept in fp16 by `CaseReadings`: one part in 1,024 of numbers up to 10."""

RECORD = record(
    "bridge",
    "Where was the writer of Dune born?",
    doc("Dune was written by Frank Herbert.", "It sold well.", gold=[0], title="Dune"),
    doc("Cats sit.", "They sleep all day.", title="Cats"),
    doc("Frank Herbert was born in Tacoma.", "He had a dog.", gold=[0]),
)
CASE = RECORD["question"], passages_of(RECORD), annotated_units(RECORD)


@pytest.fixture(scope="module")
def reader():
    return CachedReader(tiny.proxy(), PassageCache())


@pytest.fixture
def ways(reader, tmp_path):
    return WayReader(reader, LAYERS, tmp_path)


def cut(reader, case=CASE):
    return split_windows(reader.layout, *case[1:])


def decode(reader, ids):
    return reader.proxy.layout.tokenizer._plain.decode(list(ids), skip_special_tokens=True)


def test_packs_are_full_in_order_and_units_are_where_their_text_is(reader):
    alone = cut(reader)
    sizes = [len(window.tokens.ids) for window in alone]
    between = len(reader.layout.tokenizer.encode("\n\n"))
    found = list(pack_windows(reader.layout, alone, sizes[0] + sizes[1] + between))
    assert [len(read.unit_spans) for read in found] == [4, 2]
    assert decode(reader, found[0].ids).startswith("Dune\nDune was written")
    assert "well.\n\nCats\nCats sit." in decode(reader, found[0].ids)
    texts = [decode(reader, read.ids[a:b]) for read in found for a, b in read.unit_spans]
    for text, unit in zip(texts, CASE[2], strict=True):
        assert CASE[1][unit.passage].text[slice(*unit.visible)] in text
    less = pack_windows(reader.layout, alone, sizes[0] + sizes[1] + between - 1)
    assert len(next(less).unit_spans) == 2


def test_packs_of_one_passage_each_are_passages_alone(reader):
    """The slow way is the oracle: only what stands beside a passage may change what is seen."""
    longest = max(len(window.tokens.ids) for window in cut(reader))
    method = QuestionRows.for_fit(reader.proxy, LAYERS)
    method.window_tokens = longest
    alone = method.read(*CASE)
    packed = PassagePacks(reader.proxy, LAYERS, longest).read(*CASE)
    assert packed.windows == alone.windows == 3
    assert packed.tokens_read == alone.tokens_read
    assert packed.tokens == alone.tokens
    torch.testing.assert_close(packed.features, alone.features)
    together = PassagePacks(reader.proxy, LAYERS).read(*CASE)
    assert together.windows == 1
    assert together.tokens == alone.tokens
    assert (together.features - alone.features).abs().max() > 0.1


@pytest.mark.parametrize("resumed", [False, True])
def test_a_second_reading_has_the_features_of_a_cold_one_and_runs_its_question_only(
    reader, tmp_path, resumed
):
    longer = extend_question(CASE, [0])
    PassagesAlone(reader, LAYERS, tmp_path).read(*CASE)
    if resumed:  # the first reading is on disk, and nothing is kept in this process
        reader.cache.clear()
    again = PassagesAlone(reader, LAYERS, tmp_path).read_again(longer, *CASE[1:])
    cold = QuestionRows.for_fit(reader.proxy, LAYERS)
    torch.testing.assert_close(again.features, cold.read(longer, *CASE[1:]).features, **WIDE)
    assert again.tokens_read == 3 * len(reader.layout.question_tokens(longer).ids)


def test_a_first_reading_is_of_everything_whatever_was_read_before(reader, tmp_path):
    for folder in ("one", "two"):
        reading = PassagesAlone(reader, LAYERS, tmp_path / folder).read(*CASE)
        question_tokens = 3 * len(reader.layout.question_tokens(CASE[0]).ids)
        assert reading.tokens_read == question_tokens + sum(
            len(window.tokens.ids) for window in cut(reader)
        )


def test_shares_of_a_head_sum_to_one_and_are_by_mass(ways):
    """Means of 1 and 2 over 4 and 3 tokens: masses of 4 and 6."""
    logs = torch.tensor([[1.0, 9.0], [2.0, 9.0]]).log()
    shares = log_shares(Reading(logs, (4, 3), 1, 7, {})).exp()
    assert shares == pytest.approx(torch.tensor([[0.4], [0.6]]))
    alone, shared, plain = (ways.read(way, CASE) for way in ("alone", "shared", "shares"))
    half = FEATURES // 2
    assert shared.features.shape == plain.features.shape == (6, FEATURES + half)
    torch.testing.assert_close(shared.features[:, FEATURES:].exp(), plain.features[:, FEATURES:])
    assert plain.features[:, FEATURES:].sum(0) == pytest.approx(torch.ones(half))
    assert plain.tokens_read == alone.tokens_read


def weights(column, own):
    """Scores by one column of the first step; in fold `own` by its opposite."""
    first = torch.zeros(FEATURES + len(WORD_FEATURES))
    first[column] = 1.0
    hop = torch.zeros(len(HOP_FEATURES))
    hop[HOP_FEATURES.index("first_score")] = 1.0
    return WayWeights(
        CrossFitWeights(first, 0.0, {own: (-first, 0.0)}), CrossFitWeights(hop, 0.0, {})
    )


def test_survivors_in_training_are_chosen_by_weights_fitted_without_the_article(ways):
    ways.first_pass = weights(3, fold_of(RECORD))
    order = ways.alone.read(*CASE).features[:, 3].argsort(descending=True).tolist()

    def second(*survivors):
        return ways.alone.read_again(extend_question(CASE, survivors), *CASE[1:]).features

    judged = ways.read("again2", CASE, NO_FOLD).features
    assert torch.equal(judged[:, FEATURES:], second(*order[:2]))
    assert torch.equal(ways.read("again1", CASE).features[:, FEATURES:], second(order[0]))
    (case,) = training_case(ways, "again1", RECORD)
    assert torch.equal(case.first[:, FEATURES : 2 * FEATURES], second(order[-1]))
    assert not torch.equal(second(order[0]), second(order[-1]))


def test_two_readings_cost_what_both_cost(ways):
    ways.first_pass = weights(3, 0)
    first, both = ways.read("alone", CASE), ways.read("again1", CASE)
    assert both.windows == 2 * first.windows
    assert both.tokens_read > first.tokens_read
    assert sum(both.timings_ms.values()) > sum(first.timings_ms.values())
    assert both.tokens == first.tokens


def test_survivors_follow_the_question_unchanged():
    assert extend_question(CASE, []) == CASE[0]
    assert extend_question(CASE, [4, 2]) == f"{CASE[0]} Frank Herbert was born in Tacoma. Cats sit."


def test_a_context_that_just_fits_is_read_in_one_prompt_and_a_longer_one_is_left_out(ways):
    layout = ways.reader.layout
    room = tiny.CONTEXT - len(layout.opening) - len(layout.question_tokens(RECORD["question"]).ids)
    letters = room - count_joined_tokens(layout, passages_of(with_more("")))  # a token each
    fits, over = with_more("x" * letters), with_more("x" * (letters + 1))
    assert count_joined_tokens(layout, passages_of(fits)) == room
    reading = ways.read("whole", (fits["question"], passages_of(fits), annotated_units(fits)))
    assert reading.windows == 1
    source = RecordFile(None)
    assert readable_records(ways, {source: [fits, over]}, True) == {source: [fits]}
    assert readable_records(ways, {source: [fits, over]}, False) == {source: [fits, over]}
    with pytest.raises(BadInput, match="leave out the way 'whole'"):
        readable_records(ways, {source: [over]}, True)


def with_more(text):
    return {**RECORD, "docs": [*RECORD["docs"], doc(text)]}


def test_ways_are_ordered_so_that_each_has_what_it_needs():
    assert order_ways(["whole", "again2"]) == ["alone", "again2", "whole"]
    assert order_ways(WAYS) == list(WAYS)
    with pytest.raises(BadInput, match="there are: alone"):
        order_ways(["sideways"])


def test_a_way_that_keeps_more_is_above_the_reference():
    ahead = {"difference": -0.2, "low": -0.3, "high": 0.0}
    turned = _gain_over_reference(
        {"gold_kept": 0.7, "reference_gold_ahead": ahead, "reference_all_ahead": ahead}
    )
    over = {"difference": 0.2, "low": 0.0, "high": 0.3}
    assert turned == {"gold_kept": 0.7, "gold_over_alone": over, "all_gold_over_alone": over}
    assert str(turned["gold_over_alone"]["low"]) == "0.0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hops")
    tiny.save("llama", folder / "llama")
    write(folder / "fit.jsonl", example_records())
    write(folder / "held.jsonl", example_records("held-")[:9])
    return folder


def hops(folder, *words, judge="held.jsonl"):
    given = ("--train", f"{folder / 'fit.jsonl'}:20", "--judge", folder / judge)
    given += ("--proxy", folder / "llama", "--cache", folder / "readings", "--budgets", "0.3")
    return tamis("lab", "bench", "hops", *given, *words)


def test_the_command_fits_judges_and_does_not_read_again(folder):
    done = hops(folder)
    assert done.exit_code == 0, done.output
    assert "held: 9 questions; per cent" in " ".join(done.stdout.split())
    report = json.loads(hops(folder, "--json").stdout)
    files = {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}
    second = json.loads(hops(folder, "--json").stdout)
    assert files == {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}
    of = report["sets"]["held"]
    assert [report["train"][0][key] for key in ("name", "questions", "too_long")] == ["fit", 20, 0]
    assert of["too_long"] == 0
    assert list(of["ways"]) == list(WAYS)
    assert "gold_over_alone" not in of["ways"]["alone"]["budgets"]["0.3"]
    for way in WAYS:
        assert 0 <= of["ways"][way]["budgets"]["0.3"]["gold_kept"] <= 1
    read = {way: of["ways"][way]["mean_tokens_read"] for way in WAYS}
    assert read["again1"] > read["alone"] == read["shared"] > read["packs"]
    again = second["sets"]["held"]["ways"]
    assert {way: cell["budgets"] for way, cell in again.items()} == {
        way: cell["budgets"] for way, cell in of["ways"].items()
    }


def test_what_cannot_be_compared_is_refused_in_one_line(folder):
    write(folder / "one.jsonl", example_records()[:3])
    for words, judge, message in (
        (("--ways", "sideways"), "held.jsonl", "no way 'sideways'"),
        ((), "fit.jsonl", "give each file once"),
        (("--train", folder / "one.jsonl", "--budgets", "x"), "held.jsonl", "give numbers"),
    ):
        done = hops(folder, *words, judge=judge)
        assert done.exit_code == 2
        assert message in done.stderr
    few = ("--train", folder / "one.jsonl", "--judge", folder / "held.jsonl")
    done = tamis(
        "lab", "bench", "hops", *few, "--proxy", folder / "llama", "--cache", folder / "readings"
    )
    assert (done.exit_code, done.stdout) == (2, "")
    assert "too few articles" in done.stderr
