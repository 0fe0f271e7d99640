"""The graph built from queries: its parts against slow loops, and what the queries are worth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.probes.errors import BadInput
from tamis.retrieval.kv.attention_graph import AttentionGraphIndex, GraphRecipe, build_graph
from tamis.retrieval.kv.exact import ExactIndex
from tamis.retrieval.kv.neighbour_table import (
    compact_rows,
    connect_graph,
    make_faiss_graph,
    reachable_keys,
)
from tamis.retrieval.kv.projection import (
    join_tables,
    prune_candidates,
    query_metric,
    shared_neighbours,
)
from tests.retrieval.kv import clouds

N = 1200


@pytest.fixture(scope="module")
def graph() -> AttentionGraphIndex:
    made = AttentionGraphIndex(clouds.queries(600, seed=5), beam=60)
    made.add(clouds.keys(N))
    return made


def test_other_queries_find_what_exact_search_finds(graph):
    queries = clouds.queries(80)
    truth = ExactIndex(clouds.keys(N)).search(queries, 20)
    hits = graph.search(queries, 20)
    assert clouds.recall(hits.ids, truth.ids) > 0.95
    assert hits.keys_read < 80 * N / 3
    same = hits.ids == truth.ids
    torch.testing.assert_close(hits.scores[same], truth.scores[same], atol=1e-3, rtol=0)


def test_with_a_beam_as_wide_as_the_graph_every_key_is_found(graph):
    """Only a graph in which every key can be reached does that."""
    queries = clouds.queries(5)
    hits = graph.search(queries, N, N)
    assert hits.ids.sort(1).values.eq(torch.arange(N)).all()
    assert hits.keys_read == 5 * N


def test_links_from_queries_lower_the_keys_read_for_the_same_recall():
    """On queries that were not used to build the graph."""
    keys, train, test = clouds.keys(4000), clouds.queries(2000, seed=5), clouds.queries(200)
    truth = ExactIndex(keys).search(test, 50).ids
    found = {}
    for links in (0, 16):
        index = AttentionGraphIndex(train, recipe=GraphRecipe(query_links=links))
        index.add(keys)
        hits = index.search(test, 50, 60)
        found[links] = clouds.recall(hits.ids, truth), hits.keys_read
    assert found[16][0] > found[0][0] + 0.01
    assert found[16][1] < found[0][1] * 1.15


def test_the_query_metric_is_the_root_mean_square_difference_of_logits():
    keys, queries = clouds.keys(40), clouds.queries(500)
    spread = keys @ query_metric(queries)
    logits = queries @ keys.T  # [T, N]
    apart = (logits[:, :, None] - logits[:, None, :]).square().mean(0).sqrt()
    # directions that queries do not take keep a floor of a ten-thousandth of the variance
    torch.testing.assert_close(torch.cdist(spread, spread), apart, atol=0.25, rtol=0.02)


def test_shared_neighbours_are_the_keys_that_most_queries_share():
    draw = np.random.default_rng(0)
    nearest = np.array([draw.choice(30, 6, replace=False) for _ in range(50)])
    table = shared_neighbours(nearest, 30, 5)
    for key in range(30):
        shared = [len([q for q in nearest if key in q and other in q]) for other in range(30)]
        shared[key] = 0
        best = sorted(range(30), key=lambda other: (-shared[other], other))
        assert table[key].tolist() == [o if shared[o] else -1 for o in best[:5]]


def test_no_kept_neighbour_is_nearer_to_an_earlier_one_than_to_the_key():
    keys = clouds.keys(60)
    draw = np.random.default_rng(1)
    table = np.array([draw.permutation(60)[:12] for _ in range(60)], np.int32)
    table[table == np.arange(60)[:, None]] = -1
    found = prune_candidates(keys, table, 4)
    for key in range(60):
        kept: list[int] = []
        for other in table[key]:
            apart = (keys[other] - keys[key]).norm()
            if other >= 0 and len(kept) < 4:
                if all((keys[other] - keys[k]).norm() >= apart for k in kept):
                    kept.append(int(other))
        assert [n for n in found[key] if n >= 0] == kept


def test_joined_tables_keep_the_first_of_equal_neighbours_and_the_order():
    left, right = np.array([[3, -1, 5]]), np.array([[5, 7, 3, 9]])
    assert join_tables(left, right, limit=4).tolist() == [[3, 5, 7, 9]]
    assert join_tables(left, right, limit=6).tolist() == [[3, 5, 7, 9, -1, -1]]


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 40), st.integers(1, 4), st.integers(0, 10**6))
def test_whatever_the_graph_every_key_can_be_reached_once_it_is_connected(N, degree, seed):
    draw = np.random.default_rng(seed)
    table = compact_rows(draw.integers(-1, N, (N, degree)))
    entry = int(draw.integers(N))
    found = connect_graph(table, entry)
    assert reachable_keys(found, np.zeros(N, np.bool_), np.array([entry])).all()
    assert all(set(table[i]) <= set(found[i]) | {-1} for i in range(N))  # no link is lost
    assert found.shape == (N, degree + 1)


def test_faiss_searches_a_graph_by_the_given_table_alone():
    """Two islands: a search that starts on one never sees the other."""
    keys = clouds.keys(20).numpy()
    table = np.full((20, 10), -1, np.int32)
    for island in (range(10), range(10, 20)):
        for i in island:
            table[i, :9] = [j for j in island if j != i]
    index = make_faiss_graph(keys, table, entry=12)
    _, ids = index.search(clouds.queries(6).numpy(), 20)
    assert {int(i) for row in ids for i in row if i >= 0} == set(range(10, 20))


@pytest.mark.parametrize("count", [1, 2, 3, 40])
def test_few_keys_and_equal_keys_make_a_graph_too(count):
    keys = clouds.keys(1).expand(count, -1)
    index = AttentionGraphIndex(clouds.queries(8))
    index.add(keys)
    hits = index.search(clouds.queries(2), 50)
    assert hits.ids[:, :count].sort(1).values.eq(torch.arange(count)).all()
    assert hits.ids[:, count:].eq(-1).all()


def test_keys_added_later_are_built_in(graph):
    index, keys = AttentionGraphIndex(clouds.queries(100, seed=5), beam=200), clouds.keys(200)
    index.add(keys[:150])
    index.add(keys[150:])
    truth = ExactIndex(keys).search(clouds.queries(20), 10)
    assert clouds.recall(index.search(clouds.queries(20), 10).ids, truth.ids) > 0.99


def test_the_same_keys_and_queries_make_the_same_graph():
    keys, queries = clouds.keys(300), clouds.queries(100)
    first, second = (build_graph(keys, queries, GraphRecipe()) for _ in range(2))
    assert first.entry == second.entry
    assert (first.table == second.table).all()


def test_what_makes_no_graph_is_refused():
    with pytest.raises(BadInput, match="no training queries"):
        AttentionGraphIndex(torch.zeros(0, 16))
    with pytest.raises(BadInput, match=r"\[5, 3\] and \[N, 16\]"):
        AttentionGraphIndex(clouds.queries(4)).add(torch.zeros(5, 3))
    with pytest.raises(BadInput, match="empty"):
        AttentionGraphIndex(clouds.queries(4)).search(clouds.queries(1), 1)
    with pytest.raises(BadInput, match="even"):
        GraphRecipe(degree=7)
    with pytest.raises(BadInput, match="40 query links"):
        GraphRecipe(query_links=40)
