"""Partial attentions joined, against attention over everything at once."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from tamis.probes.errors import BadInput
from tamis.probes.kv_cache.retrieved import (
    Partial,
    attend_to_all,
    attend_to_best,
    attend_to_found,
    key_logits,
    merge,
)
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture for every test here

# fp32 sums in another order: a few units in the sixth digit of values around 1
FP32 = 2e-5


def cloud(N: int, seed: int, scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries `[2, 3, 8]`, keys and values `[2, N, 8]` of two heads."""
    chance = torch.Generator().manual_seed(seed)
    queries = scale * torch.randn(2, 3, 8, generator=chance)
    return queries, *torch.randn(2, 2, N, 8, generator=chance).unbind(0)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=60),
    st.sampled_from([0.1, 1.0, 200.0]),
    st.integers(0, 1000),
)
def test_any_cut_of_the_keys_into_parts_gives_the_attention_over_all(owners, scale, seed):
    """Parts may be empty; logits may be so large that a sum of exponentials would overflow."""
    queries, keys, values = cloud(len(owners), seed, scale)
    parts = [
        attend_to_all(queries, keys[:, own], values[:, own])
        for p in range(5)
        for own in [torch.tensor([o == p for o in owners])]
    ]
    found, oracle = merge(parts), scaled_dot_product_attention(queries, keys, values, scale=1.0)
    torch.testing.assert_close(found.output, oracle, atol=FP32, rtol=FP32)
    lse = (queries.double() @ keys.double().transpose(1, 2)).logsumexp(-1)
    torch.testing.assert_close(found.lse.double(), lse, atol=FP32, rtol=FP32)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.data(), st.integers(0, 1000))
def test_keys_that_were_not_found_have_no_weight(N, data, seed):
    """Each query has keys of its own; -1 is none."""
    queries, keys, values = (one[0] for one in cloud(N, seed))
    own = data.draw(st.lists(st.sets(st.integers(0, N - 1)), min_size=3, max_size=3))
    width = max(1, *map(len, own))
    ids = torch.tensor([[*sorted(some), *[-1] * (width - len(some))] for some in own])
    logits = key_logits(queries, keys)
    found, every = attend_to_found(logits.clone(), values, ids)
    torch.testing.assert_close(every.values.log() + every.shift[:, None], logits, atol=1e-3, rtol=0)
    for query, some, output, lse in zip(queries, own, found.output, found.lse, strict=True):
        rows = sorted(some)
        one = attend_to_all(query[None], keys[rows], values[rows])
        torch.testing.assert_close(output, one.output[0], atol=FP32, rtol=FP32)
        torch.testing.assert_close(lse, one.lse[0], atol=FP32, rtol=FP32)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 2_000),
    st.floats(0, 1),
    st.sampled_from(["any", "equal", "sampled are the largest", "sampled are the smallest"]),
    st.integers(1, 3),
    st.integers(0, 1000),
)
def test_the_best_keys_are_those_of_a_full_sort(N, share, kind, parts, seed):
    """Whatever a sample of the keys says of the others; equals of the last one are found, too."""
    k = max(1, round(share * N))
    logits = torch.randn(2, 3, N, generator=torch.Generator().manual_seed(seed))
    if kind == "equal":
        logits = logits.round()
    elif kind != "any":
        logits[..., ::32] += 9.0 if kind == "sampled are the largest" else -9.0
    values = cloud(N, seed)[2]
    missed = logits < logits.sort(descending=True).values[..., k - 1, None]
    weights = logits.masked_fill(missed, -torch.inf).softmax(-1)
    blocks = list(zip(logits.chunk(parts, -1), values.chunk(parts, 1), strict=True))
    found, every = attend_to_best([(own.clone(), of) for own, of in blocks], k)
    torch.testing.assert_close(found.output, weights @ values, atol=FP32, rtol=FP32)
    again = torch.cat([one.values.log() + one.shift[..., None] for one in every], -1)
    torch.testing.assert_close(again, logits, atol=1e-3, rtol=0)


def test_a_query_sees_the_keys_it_may_attend_to():
    queries, keys, values = cloud(3, 1)
    seen = torch.ones(3, 3, dtype=torch.bool).tril()
    oracle = scaled_dot_product_attention(queries, keys, values, seen, scale=1.0)
    found = attend_to_all(queries, keys, values, seen).output
    torch.testing.assert_close(found, oracle, atol=FP32, rtol=FP32)


def test_over_no_keys_at_all_there_is_no_output_and_no_nan():
    queries, keys, values = (one[0] for one in cloud(5, 2))
    nothing, _ = attend_to_found(key_logits(queries, keys), values, torch.full((3, 2), -1))
    found = merge([nothing, attend_to_all(queries, keys[:0], values[:0])])
    assert not found.output.any()
    assert found.lse.isneginf().all()


def test_without_values_the_denominator_is_the_same():
    queries, keys, values = cloud(9, 3)
    whole, bare = (attend_to_all(queries, keys, own) for own in (values, values[:, :0]))
    assert torch.equal(whole.lse, bare.lse)
    assert not bare.output.any()


def test_parts_that_do_not_fit_are_refused():
    one, two = (Partial(torch.zeros(n, 4), torch.zeros(n)) for n in (1, 2))
    with pytest.raises(BadInput, match="shapes"):
        merge([one, two])
    with pytest.raises(BadInput, match="at least one"):
        merge([])
