"""Exact search against sorting all inner products in fp64."""

from __future__ import annotations

import pytest
import torch

from tamis.probes.errors import BadInput
from tamis_lab.methods.kv_search import exact
from tamis_lab.methods.kv_search.exact import ExactIndex
from tests.retrieval.approximate import clouds

# one fp32 sum of 16 products around 50
FP32 = 1e-4


def test_it_finds_what_sorting_all_products_finds():
    keys, queries = clouds.keys(700), clouds.queries(30)
    hits = ExactIndex(keys).search(queries, 9)
    products = queries.double() @ keys.double().T
    assert torch.equal(hits.ids, products.argsort(1, descending=True)[:, :9])
    torch.testing.assert_close(
        hits.scores.double(), products.sort(1, descending=True).values[:, :9], atol=FP32, rtol=0
    )
    assert hits.keys_read == 30 * 700


def test_keys_that_come_in_parts_are_numbered_in_the_order_they_came():
    keys, queries = clouds.keys(50), clouds.queries(4)
    index = ExactIndex()
    for part in torch.split(keys, 17):
        index.add(part)
    assert torch.equal(index.search(queries, 5).ids, ExactIndex(keys).search(queries, 5).ids)
    assert len(index) == 50


def test_batches_of_queries_change_nothing(monkeypatch: pytest.MonkeyPatch):
    keys, queries = clouds.keys(50), clouds.queries(7)
    whole = ExactIndex(keys).search(queries, 5)
    monkeypatch.setattr(exact, "BATCH_SCORES", 100)
    parts = ExactIndex(keys).search(queries, 5)
    assert torch.equal(whole.ids, parts.ids)


def test_where_there_are_fewer_keys_than_wanted_the_rest_is_marked():
    hits = ExactIndex(clouds.keys(3)).search(clouds.queries(2), 5)
    assert hits.ids[:, 3:].eq(-1).all()
    assert hits.scores[:, 3:].isneginf().all()
    assert (hits.ids[:, :3] >= 0).all()


def test_what_cannot_be_searched_is_refused():
    index, queries = ExactIndex(), clouds.queries(2)
    with pytest.raises(BadInput, match="empty"):
        index.search(queries, 1)
    index.add(clouds.keys(4))
    with pytest.raises(BadInput, match=r"\[2, 3\] and \[N, 16\]"):
        index.search(torch.zeros(2, 3), 1)
    with pytest.raises(BadInput, match="1 of 2 keys hold values that are not finite"):
        index.add(torch.tensor([[1.0] * 16, [float("nan")] * 16]))
    with pytest.raises(BadInput, match="k is 0"):
        index.search(queries, 0)
    assert len(index) == 4  # what was refused left nothing behind
