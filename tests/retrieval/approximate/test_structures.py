"""The structures over keys: lists of near keys, and the graph over them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tamis.retrieval.approximate import graph
from tamis.retrieval.approximate.graph import (
    GraphSearch,
    ListGraph,
    best_lists,
    build_list_graph,
    cluster_keys,
)
from tamis.retrieval.keys.late_interaction import SCALE
from tests.retrieval.approximate import clouds

N = 6000


def ignore(done: int) -> None:
    """Progress that nobody sees."""


def stored(count: int = N, seed: int = 0) -> np.ndarray:
    """Keys as an index stores them: of unit length, in 127ths."""
    keys = clouds.keys(count, seed) - 2.0
    unit = torch.nn.functional.normalize(keys, dim=1)
    return (unit * SCALE).round().to(torch.int8).numpy()


@pytest.fixture(scope="module")
def keys() -> np.ndarray:
    return stored()


@pytest.fixture(scope="module")
def training() -> np.ndarray:
    return clouds.queries(300, 5).numpy()


@pytest.fixture(scope="module")
def queries() -> np.ndarray:
    return clouds.queries(20, 6).numpy()


def exact_best(keys, queries, k):
    return np.argsort(-(queries @ keys.T.astype(np.float32)), axis=1)[:, :k]


def recall(found, wanted):
    pairs = set(zip(found.rows.tolist(), found.keys.tolist(), strict=True))
    return np.mean([(r, key) in pairs for r, row in enumerate(wanted.tolist()) for key in row])


@pytest.mark.parametrize("count", [1, 2, 25, N])
def test_every_key_is_in_one_list_and_lists_are_numbered_cell_by_cell(count):
    keys = stored(count)
    clusters = cluster_keys(keys)
    assert sorted(clusters.members.tolist()) == list(range(count))
    assert clusters.starts[-1] == count
    assert (np.diff(clusters.starts) > 0).all()
    assert clusters.cell_starts[-1] == len(clusters.centroids)
    first = clusters.members[clusters.starts[0] : clusters.starts[1]]
    mean = keys[first].astype(float).mean(0)
    assert clusters.centroids[0] == pytest.approx(mean, abs=0.51)


def test_keys_are_nearer_to_their_list_than_to_any_other_of_chance(keys):
    clusters = cluster_keys(keys)
    owners = np.repeat(np.arange(len(clusters.centroids)), np.diff(clusters.starts))
    own = keys[clusters.members].astype(float) - clusters.centroids[owners]
    other = keys[clusters.members].astype(float) - clusters.centroids[np.roll(owners, N // 2)]
    assert np.linalg.norm(own, axis=1).mean() < 0.7 * np.linalg.norm(other, axis=1).mean()


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_keys_and_queries_make_the_same_graph(keys, training, threads):
    before = torch.get_num_threads()
    first = GraphSearch.build(keys, training, ignore)
    try:
        torch.set_num_threads(threads)
        second = GraphSearch.build(keys, training, ignore)
    finally:
        torch.set_num_threads(before)
    for name, array in first.items():
        assert np.array_equal(array, second[name]), name


def test_more_effort_reads_more_and_finds_more(keys, training, queries):
    search = GraphSearch(keys, GraphSearch.build(keys, training, ignore))
    wanted = exact_best(keys, queries, 20)
    found = [search.find(queries, effort) for effort in (0.05, 1.0)]
    assert found[0].read < found[1].read < len(queries) * N
    assert recall(found[0], wanted) <= recall(found[1], wanted)
    assert recall(found[1], wanted) > 0.9


def test_with_all_effort_every_key_is_found_with_its_inner_product(keys, training, queries):
    search = GraphSearch(keys[:500], GraphSearch.build(keys[:500], training, ignore))
    found = search.find(queries, 100.0)
    assert len(found.rows) == len(set(zip(found.rows, found.keys, strict=True))) == 20 * 500
    products = (queries[found.rows] * keys[found.keys]).sum(1)
    assert found.scores == pytest.approx(products, rel=1e-4, abs=1e-2)


def test_links_from_queries_find_more_and_read_less_than_a_plain_graph(
    keys, training, queries, monkeypatch
):
    """In a walk from one cell: from many, so small a graph is found whole by either."""
    monkeypatch.setattr(graph, "ENTRIES", 1)
    monkeypatch.setattr(graph, "EXPANDED", 4)
    clusters = cluster_keys(keys)
    scores = queries @ clusters.centroids.T.astype(np.float32)
    wanted = np.argsort(-scores, axis=1)[:, :16]

    def walk(trained) -> tuple[float, int]:
        table, entries = build_list_graph(clusters, trained)
        graph = ListGraph(clusters.centroids, table, clusters.cells, entries)
        lists, _, read = best_lists(graph, queries, 16)
        return (wanted[:, :, None] == lists[:, None, :]).any(2).mean(), read

    (linked, linked_read), (plain, plain_read) = walk(torch.from_numpy(training)), walk(None)
    assert linked > plain + 0.05
    assert linked_read < plain_read


def test_a_walk_reads_no_list_twice(keys, queries):
    clusters = cluster_keys(keys)
    table, entries = build_list_graph(clusters, None)
    graph = ListGraph(clusters.centroids, table, clusters.cells, entries)
    L = len(clusters.centroids)
    lists, scores, read = best_lists(graph, queries, L)
    assert read == len(queries) * (L + len(clusters.cells))
    for row, own in enumerate(lists):
        assert sorted(own[own >= 0].tolist()) == list(range(L))
        products = clusters.centroids[own].astype(np.float32) @ queries[row]
        assert scores[row] == pytest.approx(products, rel=1e-4, abs=1e-2)


@pytest.mark.parametrize("count", [1, 3])
def test_few_and_equal_keys_make_a_graph_too(count, queries):
    keys = np.repeat(stored(1), count, axis=0)
    search = GraphSearch(keys, GraphSearch.build(keys, None, ignore))
    assert sorted(search.find(queries[:1]).keys.tolist()) == list(range(count))
