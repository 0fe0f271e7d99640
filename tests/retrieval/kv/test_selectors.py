"""Every selector keeps what the bench relies on; quest's bounds are bounds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tamis.retrieval.kv.selectors as package
from tamis.probes.errors import BadInput, UnknownMethod
from tamis.retrieval.kv import selector_registry
from tamis.retrieval.kv.exact import ExactIndex
from tamis.retrieval.kv.selectors.quest import PAGE, Quest
from tamis.retrieval.kv.selectors.retroinfer import CLUSTER, cluster_keys
from tests.retrieval.kv import clouds

N, Q, K = 2100, 20, 25
NAMES = selector_registry.selector_names()
READS_ALL = {"ivf", "ivf_augmented", "quest", "exact"}
"""Their largest effort leaves no key out."""


@pytest.fixture(scope="module")
def built() -> dict:
    keys, train = clouds.keys(N), clouds.queries(500, seed=5)
    return {name: selector_registry.build_selector(name, keys, train) for name in NAMES}


def test_the_files_are_the_selectors():
    files = {p.stem for p in Path(package.__path__[0]).glob("[!_]*.py")}
    assert set(NAMES) == files
    assert {"exact", "ivf", "hnsw", "attention_graph", "quest"} <= files


@pytest.mark.parametrize("name", NAMES)
def test_hits_are_real_keys_each_once_with_their_own_inner_products(name, built):
    queries, selector = clouds.queries(Q), built[name]
    for effort in (selector.efforts[0], selector.efforts[-1]):
        hits = selector.search(queries, K, effort)
        assert hits.ids.shape == hits.scores.shape == (Q, K)
        for row in hits.ids:
            there = row[row >= 0]
            assert len(there.unique()) == len(there)
        own = torch.einsum("qd,qkd->qk", queries, clouds.keys(N)[hits.ids.clamp_min(0)])
        there = hits.ids >= 0
        torch.testing.assert_close(hits.scores[there], own[there], atol=1e-3, rtol=0)
        assert hits.scores[~there].isneginf().all()
        assert (hits.scores.diff(dim=1).nan_to_num(0) <= 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_largest_effort_finds_nearly_everything_and_reads_most(name, built):
    queries, selector = clouds.queries(Q), built[name]
    truth = ExactIndex(clouds.keys(N)).search(queries, K).ids
    first, last = (selector.search(queries, K, selector.efforts[i]) for i in (0, -1))
    assert first.keys_read <= last.keys_read
    # the others stop early on purpose; chance is .01
    assert clouds.recall(last.ids, truth) > (0.999 if name in READS_ALL else 0.8)
    assert list(selector.efforts) == sorted(set(selector.efforts))


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"exact"}))
def test_bad_efforts_queries_and_keys_are_refused(name, built):
    with pytest.raises(BadInput):
        built[name].search(clouds.queries(2)[:, :5], K, 10)
    with pytest.raises(BadInput):
        built[name].search(clouds.queries(2), 0, 10)
    with pytest.raises(BadInput, match="effort is 0"):
        built[name].search(clouds.queries(2), K, 0)
    with pytest.raises(BadInput, match="finite"):
        selector_registry.build_selector(name, clouds.keys(30) / 0, clouds.queries(5))
    with pytest.raises(BadInput, match="training queries"):
        selector_registry.build_selector(name, clouds.keys(30), torch.zeros(3, 5))


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
    alike = directions @ directions.T
    together = owner[:, None] == owner[None]
    assert alike[together].mean() > alike[~together].mean() + 0.2


@pytest.mark.parametrize("name", sorted(set(selector_registry.selector_names()) - {"exact", "sparq"}))
def test_a_structure_of_no_keys_is_refused_and_one_of_one_key_finds_it(name):
    train = torch.ones(3, 1)
    with pytest.raises(BadInput):
        selector_registry.build_selector(name, torch.empty(0, 1), train)
    selector = selector_registry.build_selector(name, torch.ones(1, 1), train)
    assert selector.search(train, 5, max(selector.efforts)).ids[:, 0].tolist() == [0, 0, 0]
