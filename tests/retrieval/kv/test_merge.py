"""Partial attentions joined, against attention over everything at once."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from tamis.probes.attention.recorder import Recorder, recording
from tamis.probes.errors import BadInput
from tamis.retrieval.kv.exact import Exact
from tamis.retrieval.kv.merge import Partial, merge, partial
from tests.probes import tiny
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture for every test here
from tests.retrieval.kv import clouds

# fp32 sums in another order: a few units in the sixth digit of values around 1
FP32 = 2e-5


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(0, 1000))
def test_any_cut_of_the_keys_into_parts_gives_the_attention_over_all(owners, seed):
    """Parts may be empty."""
    keys = clouds.keys(len(owners), seed)
    values, queries = torch.randn_like(keys), clouds.queries(3, seed)
    parts = [
        partial(queries, keys[own], values[own])
        for p in range(5)
        for own in [torch.tensor([o == p for o in owners])]
    ]
    whole, found = partial(queries, keys, values), merge(parts)
    torch.testing.assert_close(found.output, whole.output, atol=FP32, rtol=FP32)
    torch.testing.assert_close(found.lse, whole.lse, atol=FP32, rtol=FP32)


def joint_prefill() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries of the last 5 rows `[H, R, d]`, keys and values `[Hkv, N, d]` of one joint prompt."""
    proxy, ids = tiny.proxy("llama"), tiny.ids(60)
    recorder = Recorder(frozenset({2}), [(55, 60)], lengths=[60], keep=True, states=True)
    with torch.inference_mode(), recording(recorder):
        proxy.model(
            input_ids=torch.tensor([ids]), position_ids=torch.arange(60)[None], use_cache=False
        )
    [layers], kept = recorder.queries, recorder.kept[0][2]
    return layers[0], kept.keys, kept.values


def test_with_every_key_of_a_joint_prefill_retrieved_it_is_the_models_own_attention():
    """Static keys, retrieved keys and the rows' own, joined; the oracle is torch's SDPA."""
    queries, keys, values = joint_prefill()
    group = len(queries) // len(keys)
    for head, rows in enumerate(queries):
        k, v = keys[head // group], values[head // group]
        query = rows[:1]  # the first of the five rows sees [0, 55]
        hits = Exact(k[8:50]).search(query, 42)
        found = merge(
            [
                partial(query, k[:8], v[:8]),
                partial(query, k[8:50], v[8:50], hits.ids),
                partial(query, k[50:56], v[50:56]),
            ]
        )
        oracle = scaled_dot_product_attention(query, k[:56], v[:56], scale=1.0)
        torch.testing.assert_close(found.output, oracle, atol=FP32, rtol=FP32)


def test_keys_that_were_not_retrieved_count_as_zero():
    keys, queries = clouds.keys(30), clouds.queries(4)
    values = torch.randn_like(keys)
    ids = torch.tensor([[3, 7, -1]] * 4)
    torch.testing.assert_close(
        partial(queries, keys, values, ids).output,
        partial(queries, keys[[3, 7]], values[[3, 7]]).output,
        atol=FP32,
        rtol=FP32,
    )


def test_over_no_keys_at_all_there_is_no_output_and_no_nan():
    keys = clouds.keys(5)
    nothing = torch.full((2, 3), -1)
    found = merge([partial(clouds.queries(2), keys, keys, nothing)] * 2)
    assert not found.output.any()
    assert found.lse.isneginf().all()


def test_parts_that_do_not_fit_are_refused():
    one, two = (Partial(torch.zeros(n, 4), torch.zeros(n)) for n in (1, 2))
    with pytest.raises(BadInput, match="shapes"):
        merge([one, two])
    with pytest.raises(BadInput, match="at least one"):
        merge([])
