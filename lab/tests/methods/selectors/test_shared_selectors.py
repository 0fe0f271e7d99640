"""Selectors that need more than the keys of one head keep their contract, and their own law."""

from __future__ import annotations

from itertools import pairwise
from math import log

import pytest
import torch
from torch import Tensor

from tamis.probes.errors import BadInput
from tamis_lab.methods.kv_search import registry as selector_registry
from tamis_lab.methods.kv_search.exact import ExactIndex
from tamis_lab.methods.kv_search.shared_selector import Setting
from tamis_lab.methods.selectors import ltri, predicted
from tamis_lab.methods.selectors.longheads import LongHeads, summarise_chunk
from tamis_lab.methods.selectors.recycled import full_rows
from tamis_lab.methods.selectors.round import Round
from tamis_lab.methods.selectors.tidal import Tidal
from tamis_lab.methods.selectors.token_select import TokenSelect
from tests.retrieval.approximate import clouds

S, N, Q, K = 3, 700, 20, 25
NAMES = [
    name
    for name in selector_registry.SELECTORS.names()
    if selector_registry.SELECTORS.load(name).info.needs
]
KEYS = torch.stack([clouds.keys(N, seed) for seed in range(S)])
QUERIES = torch.stack([clouds.queries(Q, seed) for seed in range(S)])
QUESTIONS = torch.tensor([0] * 9 + [4] * 11)
SETTING = Setting(
    KEYS.flip(2), torch.tensor([[0, 90], [90, 400], [400, 420], [420, N]]), (2, 9, 10)
)


def build(name: str, keys: Tensor = KEYS, setting: Setting = SETTING):
    return selector_registry.build_shared_selector(name, keys, QUERIES[: len(keys)], setting)


@pytest.mark.parametrize("name", [*NAMES, "quest"])
def test_hits_are_real_keys_each_once_with_their_own_inner_products(name):
    selector = build(name)
    for effort in (selector.efforts[0], selector.efforts[-1]):
        hits = selector.search(QUERIES, K, effort, QUESTIONS)
        assert hits.ids.shape == hits.scores.shape == (S, Q, K)
        for row in hits.ids.flatten(0, 1):
            found = row[row >= 0]
            assert len(found.unique()) == len(found)
        own = (QUERIES @ KEYS.mT).gather(2, hits.ids.clamp_min(0))
        is_hit = hits.ids >= 0
        torch.testing.assert_close(hits.scores[is_hit], own[is_hit], atol=1e-3, rtol=0)
        assert hits.scores[~is_hit].isneginf().all()


@pytest.mark.parametrize("name", [*NAMES, "quest"])
def test_the_largest_effort_is_exact_and_more_effort_never_reads_fewer_keys(name):
    selector = build(name)
    found = [selector.search(QUERIES, K, effort, QUESTIONS) for effort in selector.efforts]
    exact = [ExactIndex(k).search(q, K).scores for k, q in zip(KEYS, QUERIES, strict=True)]
    torch.testing.assert_close(found[-1].scores, torch.stack(exact), atol=1e-3, rtol=0)
    read = [hits.keys_read for hits in found]
    assert read == sorted(read)
    assert all(hits.keys_read >= int((hits.ids >= 0).sum()) for hits in found)


@pytest.mark.parametrize("name", NAMES)
def test_one_key_is_found_and_bad_arguments_are_refused(name):
    one = build(name, KEYS[:1, :1], Setting(KEYS[:1, :1], torch.tensor([[0, 1]]), (0,)))
    assert (one.search(QUERIES[:1], 5, 1, QUESTIONS).ids[..., 0] == 0).all()
    for queries, k, effort, questions in (
        (QUERIES[:2], K, 1, QUESTIONS),
        (QUERIES[..., :5], K, 1, QUESTIONS),
        (QUERIES, 0, 1, QUESTIONS),
        (QUERIES, K, 0, QUESTIONS),
        (QUERIES, K, 1, QUESTIONS[:3]),
    ):
        with pytest.raises(BadInput):
            build(name).search(queries, k, effort, questions)
    with pytest.raises(BadInput, match="build_shared_selector"):
        selector_registry.build_selector(name, KEYS[0], QUERIES[0])


@pytest.mark.parametrize("passages", [[[0, 90]], [[0, 90], [95, N]], [[5, N]], []])
def test_passages_that_leave_keys_out_are_refused(passages):
    spans = torch.tensor(passages, dtype=torch.long).view(-1, 2)
    with pytest.raises(BadInput, match=f"from key 0 to key {N}"):
        build("round", setting=Setting(SETTING.values, spans, SETTING.layers))


def test_votes_are_the_sum_of_two_softmaxes_by_hand():
    """By hand: logits (ln 4, 0, 0) and (0, 0, ln 2) give .917, .417, .667."""
    keys = torch.eye(3).expand(2, 3, 3)
    selector = TokenSelect(keys, keys, Setting(keys, torch.tensor([[0, 3]]), (0, 0)))
    votes = selector.votes(torch.tensor([[log(4), 0, 0], [0, 0, log(2)]]))
    torch.testing.assert_close(votes, torch.tensor([11 / 12, 5 / 12, 8 / 12]))


def test_a_question_that_is_asked_again_votes_once():
    selector, twice = build("token_select"), QUERIES[:, :5].repeat(1, 2, 1)
    one = selector.search(twice[:, :5], K, 30, torch.zeros(5)).keys_read
    assert selector.search(twice, K, 30, torch.tensor([0] * 5 + [1] * 5)).keys_read == (
        2 * one - S * N
    )


def test_twenty_layers_of_tidal_read_28_percent_by_hand():
    """By hand: 4 of 20 layers read whole, the rest a tenth."""
    keys = KEYS[:1].expand(20, -1, -1)
    setting = Setting(keys, torch.tensor([[0, N]]), tuple(range(20)))
    tidal, queries = Tidal(keys, keys, setting), torch.randn(20, 6, clouds.WIDTH)
    assert [head for head in range(20) if tidal.reads_whole(head)] == [0, 1, 2, 9]
    hits = tidal.search(queries, N // 10, N // 10, torch.zeros(6))
    assert hits.keys_read == pytest.approx(0.28 * 20 * N * 6)
    for head, source in ((3, 2), (8, 2), (10, 9), (19, 9)):
        assert torch.equal(hits.ids[head].sort().values, hits.ids[source].sort().values)


def test_seven_rows_in_strides_of_three_take_their_keys_from_three_rows_by_hand():
    assert full_rows(torch.zeros(7), 3).tolist() == [0, 0, 0, 3, 3, 3, 6]
    assert full_rows(torch.tensor([0, 0, 5, 5, 5]), 2).tolist() == [0, 0, 2, 2, 4]


def test_recycling_loses_nothing_of_a_question_whose_rows_are_alike():
    alike = QUERIES[:, :1].expand(-1, Q, -1)
    hits = build("recycled").search(alike, K, K, torch.zeros(Q))
    exact = [ExactIndex(k).search(q, K).scores for k, q in zip(KEYS, alike, strict=True)]
    torch.testing.assert_close(hits.scores, torch.stack(exact), atol=1e-3, rtol=0)
    assert hits.keys_read == S * (3 * N + 17 * K)


def test_deeper_layers_read_only_the_passages_that_hold_most_of_the_lowest_layers_attention():
    selector = build("round")
    assert isinstance(selector, Round)
    scores = selector.passage_scores(QUERIES[:1, :9])
    torch.testing.assert_close(scores.sum(), torch.tensor(1.0))
    start, stop = SETTING.passages[scores.argmax()].tolist()
    ids = selector.search(QUERIES[:, :9], K, 1, QUESTIONS[:9]).ids[1:]
    assert ((ids < 0) | ((ids >= start) & (ids < stop))).all()


def test_a_chunk_of_equal_keys_has_that_key_for_its_summary():
    key = torch.randn(2, 1, 8)
    torch.testing.assert_close(
        summarise_chunk(key.expand(-1, 5, -1), torch.randn(2, 5, 8)), key[:, 0]
    )


def test_the_first_and_the_last_chunk_are_always_read():
    selector = build("longheads")
    assert isinstance(selector, LongHeads)
    ids = selector.search(QUERIES, N, 2, QUESTIONS).ids
    ends = {*range(64), *range(640, N)}
    assert all(set(row[row >= 0].tolist()) == ends for row in ids.flatten(0, 1))


def test_triangles_by_hand():
    """By hand: S(0,1) = .95 > S(0,2) = .90 > S(2,2) = .45, so the spans are {0, 1} and {2}."""
    attention = torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0], [0.1, 0.1, 0.8]])
    scores = ltri.span_scores(attention, 0.35)
    found = [scores[x, y].item() for x, y in ((0, 1), (0, 2), (2, 2))]
    assert found == pytest.approx([0.95, 0.90, 0.45])
    assert ltri.disjoint_spans(scores) == [(0, 2), (2, 3)]


@pytest.mark.parametrize("seed", range(3))
def test_a_spans_score_is_the_double_sum_over_its_triangle(seed):
    attention = torch.rand(9, 9, generator=torch.Generator().manual_seed(seed)).tril()
    scores = ltri.span_scores(attention, 0.3)
    for x in range(9):
        for y in range(x, 9):
            due = sum(attention[i, j] - 0.3 for i in range(x, y + 1) for j in range(x, i + 1))
            assert scores[x, y].item() == pytest.approx(float(due), abs=1e-5)


def test_spans_follow_each_other_over_all_keys():
    spans = list(ltri.triangle_spans(KEYS))
    assert (spans[0][0], spans[-1][1]) == (0, N)
    assert all(a[1] == b[0] for a, b in pairwise(spans))


def test_the_network_has_the_papers_weights_and_one_score_a_block():
    network = predicted.new_network()
    assert sum(p.numel() for p in network.parameters()) == 4833
    assert predicted.predict(network, torch.rand(3, predicted.HISTORY, 11)).shape == (3, 11)


def test_weights_of_zero_give_every_block_the_same_score():
    network = predicted.new_network()
    for weight in network.parameters():
        torch.nn.init.zeros_(weight)
    scores = predicted.predict(network, torch.rand(1, predicted.HISTORY, 11))
    assert (scores == scores[0, 0]).all()


def test_a_block_that_every_row_attends_to_is_predicted_first():
    rows = torch.full((2, 60, 40), 0.001)
    rows[:, :, 23] = 0.5
    network = predicted.fit_predictor(rows)
    scores = predicted.predict(network, rows[:, : predicted.HISTORY])
    assert scores.argmax(1).tolist() == [23, 23]


def test_every_eighth_row_reads_all_keys_and_the_others_their_blocks():
    selector = build("predicted")
    reads = selector.search(QUERIES[:, :9], K, K, torch.zeros(9)).keys_read
    blocks = 2 * predicted.ALWAYS
    short = -N % predicted.BLOCK  # the last block, which is always read, is shorter
    assert reads == S * (2 * N + 7 * (blocks * predicted.BLOCK - short))
