"""Every eviction policy keeps the common laws, and its own; asking what it keeps has a meaning."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from tamis.probes.errors import BadInput, UnknownMethod
from tamis_lab.methods import registry as eviction_registry
from tamis_lab.methods.evictions import (
    balance,
    expected,
    kvcompose,
    kvzip,
    lookback,
    moa,
    sage,
    spatten,
    streaming,
)
from tamis_lab.methods.evictions import random as random_eviction
from tamis_lab.methods.kv_thinning.contract import SPANS, KeptPassage, ragged_plan

L, H, HKV, D, BANK = 3, 4, 2, 8, 5
NAMES = eviction_registry.EVICTIONS.names()
SHARES = (0.125, 0.25, 0.5, 1.0)


def passage(tokens=40, seed=0) -> KeptPassage:
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=draw)

    return KeptPassage(
        normal(L, HKV, tokens, D),
        normal(L, HKV, tokens, D),
        normal(L, H, BANK, tokens).softmax(-1),
        normal(L, H, BANK, D),
        normal(L, HKV).abs(),
        normal(L, HKV, len(SPANS)).abs().sort(-1, descending=True).values,
        seed,
    )


def keep(name, given, share):
    return eviction_registry.EVICTIONS.load(name)().keep(given, share)


def id_sets(plan):
    return [[set(head[head >= 0].tolist()) for head in layer] for layer in plan.ids]


def test_the_files_are_the_policies_and_a_wrong_name_is_answered_with_the_nearest():
    files = {p.stem for p in eviction_registry.EVICTIONS.folder.iterdir() if p.suffix == ".py"}
    assert {*NAMES, "__init__"} == files
    with pytest.raises(UnknownMethod, match="kvcompose"):
        eviction_registry.EVICTIONS.load("kvcompost")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tokens", [1, 2, 40, 301])
def test_share_one_keeps_every_token_in_order_without_bias(name, tokens):
    plan = keep(name, passage(tokens), 1.0)
    assert len(plan.ids) == L
    for ids in plan.ids:
        assert torch.equal(ids, torch.arange(tokens).expand(HKV, -1))
    assert plan.bias is None or not any(layer.any() for layer in plan.bias)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("tokens", [1, 3, 40, 301])
def test_ids_are_valid_unique_and_ascending_and_within_the_budget(name, share, tokens):
    plan = keep(name, passage(tokens), share)
    for ids in plan.ids:
        assert ids.dtype == torch.int64
        for head in ids:
            real = head[head >= 0]
            assert torch.equal(head[: len(real)], real)  # padding is at the end
            assert ((real < tokens) & (real >= 0)).all()
            assert (real.diff() > 0).all()
            assert len(real) or name == "lookback"  # which keeps whole heads or nothing
    at_least_one = tokens if name == "lookback" else L * HKV
    assert 1 <= plan.count() <= max(at_least_one, int(share * L * HKV * tokens))


@pytest.mark.parametrize("name", NAMES)
def test_a_larger_share_never_keeps_less_and_a_ranking_drops_no_token(name):
    plans = [keep(name, passage(120), share) for share in SHARES]
    is_nested = eviction_registry.EVICTIONS.load(name).info.nested
    assert plans[0].count() < plans[-1].count()
    for small, large in pairwise(plans):
        assert small.count() <= large.count()
        for few, many in zip(id_sets(small), id_sets(large), strict=True):
            assert not is_nested or all(a <= b for a, b in zip(few, many, strict=True))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share", [0.0, -1.0, 1.5, math.nan])
def test_a_share_that_is_none_is_refused(name, share):
    with pytest.raises(BadInput, match="share"):
        keep(name, passage(), share)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_policy_needs_is_asked_for(name):
    bare = KeptPassage(passage().keys, passage().values)
    if eviction_registry.EVICTIONS.load(name).info.needs:
        with pytest.raises(BadInput, match="needs"):
            keep(name, bare, 0.5)
    else:
        assert keep(name, bare, 0.5).count()


def with_rows(rows, layers=1, kv_heads=1):
    rows = torch.tensor(rows)
    zeros = torch.zeros(layers, kv_heads, rows.shape[-1], D)
    return KeptPassage(zeros, zeros, rows)


def test_streaming_keeps_the_first_and_the_last_tokens():
    given = passage(10)
    by_hand = streaming.Streaming(sinks=2).keep(given, 0.5)
    assert all(ids.tolist() == [[0, 1, 7, 8, 9]] * HKV for ids in by_hand.ids)
    assert streaming.Streaming(sinks=0).keep(given, 0.3).ids[0][0].tolist() == [7, 8, 9]
    assert streaming.Streaming().keep(given, 0.3).ids[0][0].tolist() == [0, 1, 2]


def test_random_draws_the_same_for_the_same_seed_and_other_tokens_for_another():
    draw = random_eviction.Random()
    one, same, other = (draw.keep(passage(seed=s), 0.25) for s in (1, 1, 2))
    assert id_sets(one) == id_sets(same) != id_sets(other)


def test_sage_keeps_what_questions_look_at():
    by_hand = with_rows([[[[0.1, 0.6, 0.3]], [[0.3, 0.2, 0.5]]]])  # [L, H, B, N]
    assert sage.Sage(box=1).keep(by_hand, 2 / 3).ids[0].tolist() == [[1, 2]]
    smoothed = sage.smooth(torch.tensor([0.0, 0.0, 3.0, 0.0]), 3)
    assert smoothed.tolist() == [0.0, 1.0, 1.0, 1.5]  # fewer neighbours at the end


def test_sage_is_blind_to_scale_and_to_a_constant_in_another_head():
    given = passage()
    plan = sage.Sage().keep(given, 0.25)
    scaled = KeptPassage(given.keys, given.values, given.rows * 3)
    assert id_sets(sage.Sage().keep(scaled, 0.25)) == id_sets(plan)
    rows = given.rows.clone()
    rows[:, 0] += 1
    others = id_sets(sage.Sage().keep(KeptPassage(given.keys, given.values, rows), 0.25))
    assert [layer[1] for layer in others] == [layer[1] for layer in id_sets(plan)]


def test_kvcompose_gives_each_layer_as_many_tokens_as_its_composites_are_worth():
    rows = [
        [[[0.5, 0.1, 0.3]], [[0.2, 0.6, 0.1]]],
        [[[0.4, 0.35, 0.3]], [[0.4, 0.35, 0.3]]],
    ]
    plain = kvcompose.KvCompose(head_mean=False, first_layer=False)
    plan = plain.keep(with_rows(rows, 2, 2), 4 / 6)
    assert [ids.tolist() for ids in plan.ids] == [[[0], [1]], [[0, 1, 2], [0, 1, 2]]]


def test_kvcompose_is_rectangular_and_follows_a_permutation_of_the_tokens():
    given, order = passage(), torch.randperm(40, generator=torch.Generator().manual_seed(9))
    plan = kvcompose.KvCompose().keep(given, 0.25)
    assert all((ids >= 0).all() for ids in plan.ids)
    assert sum(ids.shape[1] for ids in plan.ids) == int(0.25 * L * 40)
    moved = KeptPassage(given.keys, given.values, given.rows[..., order])
    back = [
        [{int(order[i]) for i in head} for head in layer]
        for layer in id_sets(kvcompose.KvCompose().keep(moved, 0.25))
    ]
    assert back == id_sets(plan)


def test_expected_without_spread_is_the_softmax_of_the_mean_query():
    given = passage()
    alike = given.queries.mean(2, keepdim=True).expand(-1, -1, BANK, -1)
    weights = expected.expected_weights(alike, given.keys)
    own = given.keys.repeat_interleave(H // HKV, 1)
    logits = torch.einsum("lhd,lhnd->lhn", alike[:, :, 0], own)
    torch.testing.assert_close(weights, logits.softmax(-1))
    # by hand: queries 1 and -1, keys 0 and 2: exp(0), exp(2·2/2)
    by_hand = expected.expected_weights(
        torch.tensor([[[[1.0], [-1.0]]]]), torch.tensor([[[[0.0], [2.0]]]])
    )
    assert float(by_hand[0, 0, 1]) == pytest.approx(math.exp(2) / (1 + math.exp(2)))


def test_kvzip_has_one_budget_for_all_heads():
    rows = [[[[0.9, 0.8, 0.7, 0.6]], [[0.1, 0.2, 0.3, 0.4]]]]
    plan = kvzip.KvZip().keep(with_rows(rows, 1, 2), 0.5)
    assert plan.ids[0].tolist() == [[0, 1, 2], [3, -1, -1]]


def test_lookback_keeps_whole_heads_in_order_of_size():
    given = passage()
    plan = lookback.LookBack().keep(given, 0.5)
    counts = [len(head) for layer in id_sets(plan) for head in layer]
    largest = given.sizes.flatten().argsort(descending=True)[:3].tolist()
    assert counts == [40 if head in largest else 0 for head in range(L * HKV)]


def test_spatten_never_takes_back_what_it_pruned():
    rows = [[[[0.5, 0.3, 0.2]]], [[[0.1, 0.2, 0.7]]]]
    given = with_rows(rows, 2, 1)
    drawn = given.rows.mean(2).sum(1).cumsum(0)
    assert drawn[1].tolist() == pytest.approx([0.6, 0.5, 0.9])
    for share in SHARES:
        layers = [heads[0] for heads in id_sets(spatten.SpAtten().keep(passage(100), share))]
        assert all(later <= earlier for earlier, later in pairwise(layers))
    counts = spatten.tokens_by_layer(20, 100, 0.25)
    assert counts == sorted(counts, reverse=True)
    assert 0.24 * 2000 <= sum(counts) <= 0.25 * 2000


def test_balance_keeps_half_exactly_and_duplicates_cost_nothing():
    keys = torch.tensor([[0.3, 1.0]] * 2 + [[-0.7, 0.2]] * 2)[None, None]
    values = torch.tensor([[1.0, 0.0]] * 2 + [[0.0, 2.0]] * 2)[None, None]
    plan = balance.Balance().keep(KeptPassage(keys, values, seed=3), 0.5)
    query = torch.tensor([0.9, -0.4])

    def output(ids, bias):
        return (keys[0, 0, ids] @ query + bias).softmax(0) @ values[0, 0, ids]

    whole = output(torch.arange(4), torch.zeros(4))
    torch.testing.assert_close(output(plan.ids[0][0], plan.bias[0][0]), whole)
    assert whole.tolist() == pytest.approx([0.641, 0.718], abs=1e-3)


def test_balance_has_exact_sizes_and_the_same_ids_for_the_same_seed():
    for tokens in (40, 301):
        for t, share in enumerate((0.5, 0.25, 0.125), 1):
            plan = balance.Balance().keep(passage(tokens), share)
            assert all(ids.shape == (HKV, tokens // 2**t) for ids in plan.ids)
            assert all((bias == t * math.log(2)).all() for bias in plan.bias)
    again = balance.Balance().keep(passage(), 0.5)
    assert id_sets(again) == id_sets(balance.Balance().keep(passage(), 0.5))
    with pytest.raises(BadInput, match="keeps"):
        balance.Balance().keep(passage(), 0.3)


def test_balance_errs_less_than_halves_drawn_by_chance():
    """Over many passages and queries; a third less error of the outputs here."""
    errors = {"balance": 0.0, "chance": 0.0}
    for seed in range(20):
        draw = torch.Generator().manual_seed(seed)
        centres = torch.randn(8, D, generator=draw)
        at = torch.randint(8, (128,), generator=draw)
        keys = centres[at] + 0.1 * torch.randn(128, D, generator=draw)
        values = torch.randn(8, D, generator=draw)[at]
        given = KeptPassage(keys[None, None], values[None, None], seed=seed)
        queries = torch.randn(50, D, generator=draw)
        whole = (queries @ keys.T).softmax(-1) @ values
        plans = {
            "balance": balance.Balance().keep(given, 0.5),
            "chance": random_eviction.Random().keep(given, 0.5),
        }
        for name, plan in plans.items():
            ids = plan.ids[0][0]
            own = (queries @ keys[ids].T).softmax(-1) @ values[ids]
            errors[name] += float((own - whole).norm(dim=-1).mean())
    assert errors["balance"] < 0.9 * errors["chance"]


def test_moa_keeps_a_prefix_and_a_suffix_and_never_shortens_a_span():
    given, before = passage(301), None
    for share in (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0):
        lengths = []
        for layer in moa.Moa().keep(given, share).ids:
            for head in layer:
                ids = head[head >= 0]
                first = min(len(ids), moa.SINKS)
                suffix = torch.arange(301 - (len(ids) - first), 301)
                assert torch.equal(ids, torch.cat((torch.arange(first), suffix)))
                lengths.append(len(ids))
        assert before is None or all(a <= b for a, b in zip(before, lengths, strict=True))
        before = lengths


def test_moa_lengthens_first_the_span_that_saves_most_for_its_bytes():
    losses = torch.tensor([[9.0, 9.0, 9.0, 9.0, 0.0], [1.0, 0.5, 0.4, 0.3, 0.2]])
    # 256 tokens of the first head save 9; 32 of the second save .5
    lengths = moa.choose_spans(losses, 300, 4 + 260)
    assert lengths.tolist() == [260, 4]


def test_a_ragged_plan_pads_at_the_end():
    kept = torch.tensor([[[True, False, True], [False, True, False]]])
    assert ragged_plan(kept).ids[0].tolist() == [[0, 2], [1, -1]]
