"""Every selector keeps what its contract promises; quest's bounds are bounds.

Tests with a parameter `name` run over the files of the registry's folder:
`-p lab.tests.selector_folder --selector-folder DIR` runs them over those of another folder.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.probes.errors import BadInput, UnknownMethod
from tamis_lab.methods.kv_search import registry as selector_registry
from tamis_lab.methods.kv_search.contract import KeySelector
from tamis_lab.methods.kv_search.exact import ExactIndex
from tamis_lab.methods.selectors import hip, lsh, moba
from tamis_lab.methods.selectors.quest import PAGE, Quest
from tamis_lab.methods.selectors.retroinfer import CLUSTER, cluster_keys
from tests.retrieval.approximate import clouds

N, Q, K = 2100, 20, 25
NAMES = [
    n
    for n in selector_registry.SELECTORS.names()
    if not selector_registry.SELECTORS.load(n).info.needs
]


@pytest.fixture(scope="module")
def selectors() -> dict[str, KeySelector]:
    """Every selector over the same keys, built on first use."""

    class Built(dict):
        def __missing__(self, name: str) -> KeySelector:
            keys, train = clouds.keys(N), clouds.queries(500, seed=5)
            self[name] = selector_registry.build_selector(name, keys, train)
            return self[name]

    return Built()


def test_the_files_are_the_selectors():
    files = {
        path.stem for path in selector_registry.SELECTORS.folder.iterdir() if path.suffix == ".py"
    }
    assert {*selector_registry.SELECTORS.names(), "__init__"} == files


@pytest.mark.parametrize("name", NAMES)
def test_hits_are_real_keys_each_once_with_their_own_inner_products(name, selectors):
    queries, selector = clouds.queries(Q), selectors[name]
    for effort in (selector.efforts[0], selector.efforts[-1]):
        hits = selector.search(queries, K, effort)
        assert hits.ids.shape == hits.scores.shape == (Q, K)
        for row in hits.ids:
            found = row[row >= 0]
            assert len(found.unique()) == len(found)
        own = torch.einsum("qd,qkd->qk", queries, clouds.keys(N)[hits.ids.clamp_min(0)])
        is_hit = hits.ids >= 0
        torch.testing.assert_close(hits.scores[is_hit], own[is_hit], atol=1e-3, rtol=0)
        assert hits.scores[~is_hit].isneginf().all()
        assert (hits.scores.diff(dim=1).nan_to_num(0) <= 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_largest_effort_finds_nearly_everything_and_reads_most(name, selectors):
    """What reads as much as every key must find all; the others stop early, where chance is .01."""
    queries, selector = clouds.queries(Q), selectors[name]
    truth = ExactIndex(clouds.keys(N)).search(queries, K).ids
    first, last = (selector.search(queries, K, selector.efforts[i]) for i in (0, -1))
    assert first.keys_read <= last.keys_read
    assert clouds.recall(last.ids, truth) > (0.999 if last.keys_read >= Q * N else 0.8)


@pytest.mark.parametrize("name", NAMES)
def test_efforts_ascend_and_are_described(name, selectors):
    efforts, info = list(selectors[name].efforts), selector_registry.SELECTORS.load(name).info
    assert efforts == sorted(set(efforts))
    assert efforts[0] >= 1
    assert bool(info.effort) == (len(efforts) > 1)
    assert info.summary
    assert info.source


@pytest.mark.parametrize("name", NAMES)
def test_threads_that_search_at_the_same_time_find_what_one_alone_finds(name, selectors):
    selector, queries = selectors[name], clouds.queries(Q).split(1)
    effort = selector.efforts[0]
    alone = [selector.search(query, K, effort) for query in queries]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda query: selector.search(query, K, effort), queries * 3))
    for hits, expected in zip(together, alone * 3, strict=True):
        assert torch.equal(hits.ids, expected.ids)
        assert hits.keys_read == expected.keys_read


@pytest.mark.parametrize("name", NAMES)
def test_bad_efforts_queries_and_keys_are_refused(name, selectors):
    with pytest.raises(BadInput):
        selectors[name].search(clouds.queries(2)[:, :5], K, 10)
    with pytest.raises(BadInput):
        selectors[name].search(clouds.queries(2), 0, 10)
    with pytest.raises(BadInput, match="effort is 0"):
        selectors[name].search(clouds.queries(2), K, 0)
    with pytest.raises(BadInput, match="finite"):
        selector_registry.build_selector(name, clouds.keys(30) / 0, clouds.queries(5))
    with pytest.raises(BadInput, match="training queries"):
        selector_registry.build_selector(name, clouds.keys(30), torch.zeros(3, 5))


@pytest.mark.parametrize("name", NAMES)
def test_a_structure_of_no_keys_is_refused_and_one_of_one_key_finds_it(name):
    train = torch.ones(3, 1)
    with pytest.raises(BadInput):
        selector_registry.build_selector(name, torch.empty(0, 1), train)
    selector = selector_registry.build_selector(name, torch.ones(1, 1), train)
    assert selector.search(train, 5, max(selector.efforts)).ids[:, 0].tolist() == [0, 0, 0]


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UnknownMethod, match="did you mean 'quest'"):
        selector_registry.build_selector("qwest", clouds.keys(5), clouds.queries(5))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 70), st.integers(0, 1000))
def test_quests_bound_is_never_below_the_best_key_of_a_page(count, seed):
    keys, queries = clouds.keys(count, seed), clouds.queries(5, seed)
    bounds = Quest(keys, queries).bounds(queries)
    for page, members in enumerate(torch.split(keys, PAGE)):
        best = (queries @ members.T).amax(1)
        assert (bounds[:, page] >= best - 1e-4).all()  # fp32 sums in two orders


def test_quest_reads_two_bounds_a_page_and_the_pages_it_chose():
    quest = Quest(clouds.keys(100), clouds.queries(1))  # 7 pages, the last of 4 keys
    assert quest.search(clouds.queries(1), 5, 7).keys_read == 2 * 7 + 100


def test_retroinfers_clusters_are_as_many_as_sixteenths_and_hold_nearer_keys_than_chance():
    keys = clouds.keys(640)
    owner = cluster_keys(keys)
    assert owner.unique().tolist() == list(range(int(owner.max()) + 1))
    assert int(owner.max()) < 640 // CLUSTER
    directions = torch.nn.functional.normalize(keys - keys.mean(0), dim=1)
    cosine = directions @ directions.T
    is_shared = owner[:, None] == owner[None]
    assert cosine[is_shared].mean() > cosine[~is_shared].mean() + 0.2


def test_sparq_knows_what_share_of_attention_it_read_where_few_components_tell_all():
    """Queries of one component each: approximate logits are the logits, and the mass is exact."""
    keys, queries = clouds.keys(300), torch.eye(clouds.WIDTH)
    hits = selector_registry.build_selector("sparq", keys, queries).search(queries, K, K)
    exact = (hits.scores.logsumexp(1) - (queries @ keys.T).logsumexp(1)).exp()
    torch.testing.assert_close(hits.mass, exact)
    whole = selector_registry.build_selector("sparq", keys, queries).search(queries, 300, 300)
    torch.testing.assert_close(whole.mass, torch.ones(len(queries)))


def test_mobas_gate_is_the_mean_logit_and_misses_a_lone_best_key_by_hand(monkeypatch):
    """By hand: gates 2 and 3, though a key of logit 3 is in the first block."""
    keys, query = torch.tensor([[1.0, 0], [3, 0], [0, 2], [0, 4]]), torch.ones(1, 2)
    monkeypatch.setattr(moba, "BLOCK", 2)
    assert moba.Moba(keys, query).gates(query).tolist() == [[2, 3]]
    hits = moba.Moba(keys, query).search(query, 2, 1)
    assert (hits.ids.tolist(), hits.keys_read) == ([[3, 2]], 2 + 2)


def test_hip_halves_by_the_first_block_and_misses_the_best_key_by_hand():
    """By hand: logits 1 9 0 0 5 0 3 8, two groups: {4, 7} are left, the best two are {1, 7}."""
    logits = torch.tensor([[1.0, 9, 0, 0, 5, 0, 3, 8]])
    blocks, scored = hip.halve_groups(lambda ids: logits.gather(1, ids), 8, 2, 1)
    assert sorted(blocks[0].tolist()) == [4, 7]
    assert scored == 8


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 8), st.integers(0, 5), st.integers(0, 99))
def test_hips_groups_end_in_distinct_blocks_after_a_round_for_each_doubling(groups, rounds, seed):
    draw = torch.Generator().manual_seed(seed)
    scores = torch.randn(3, groups << rounds, generator=draw)
    left, scored = hip.halve_groups(lambda ids: scores.gather(1, ids), scores.shape[1], groups, 3)
    assert all(len(row.unique()) == groups for row in left)
    assert scored == 2 * groups * rounds


def test_places_in_the_gray_order_differ_in_one_sign_from_the_next():
    codes = torch.tensor([[(code >> bit) & 1 for bit in (2, 1, 0)] for code in range(8)])
    ranks = lsh.gray_ranks(codes.float())
    assert sorted(ranks.tolist()) == list(range(8))
    assert lsh.gray_ranks(codes[:4, 1:].float()).tolist() == [0, 1, 3, 2]
    assert (codes[ranks.argsort()].diff(dim=0).abs().sum(1) == 1).all()
