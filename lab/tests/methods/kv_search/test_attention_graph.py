"""The graph built from queries: its parts against slow loops, and what the queries are worth."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tamis.probes.errors import BadInput
from tamis_lab.methods.kv_search.attention_graph import (
    AttentionGraphIndex,
    GraphRecipe,
    build_graph,
    build_published_graph,
    make_faiss_graph,
    projected_neighbours,
)
from tamis_lab.methods.kv_search.exact import ExactIndex
from tests.retrieval.approximate import clouds

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


def test_the_published_graph_gives_a_querys_nearest_key_the_others_by_their_distance():
    keys = torch.tensor([[5.0, 0], [4, 0], [1, 0], [3, 1], [0, 9]])
    queries = torch.tensor([[1.0, 0], [0, 1]])
    table = projected_neighbours(keys, queries, GraphRecipe(nearest=4, candidates=6))
    assert table[0].tolist() == [1, 3, 2, -1, -1, -1]  # the first query finds 0, then 1, 3, 2
    assert table[4, 0] == 3
    assert (table[[1, 2, 3]] == -1).all()


def test_the_published_graph_reaches_every_key_and_finds_most():
    keys = torch.nn.functional.normalize(clouds.keys(N) - 2, dim=1)
    made = AttentionGraphIndex(clouds.queries(600, seed=5), build=build_published_graph)
    made.add(keys)
    all_found = made.search(clouds.queries(5), N, N)
    assert all_found.ids.sort(1).values.eq(torch.arange(N)).all()
    queries = clouds.queries(80)
    hits, truth = made.search(queries, 20, 60), ExactIndex(keys).search(queries, 20)
    assert clouds.recall(hits.ids, truth.ids) > 0.9
    assert hits.keys_read < 80 * N / 3


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
