"""Tables of neighbours against slow loops."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.retrieval.approximate.graph import (
    compact_rows,
    connect_graph,
    join_tables,
    prune_candidates,
    query_metric,
    reachable_keys,
    shared_neighbours,
)
from tests.retrieval.approximate import clouds


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
