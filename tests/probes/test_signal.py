"""Pooling of token weights into spans and moving averages, against plain loops."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tamis.probes.errors import BadInput
from tamis.probes.signal import (
    Pool,
    SharedRows,
    Signal,
    box_filter,
    pool_shared,
    pool_tokens,
)
from tests.pretend_device import PretendDevice

# fp32 keeps 7 digits; sums are of at most 30 numbers below 1
FP32 = 1e-6
SHAPE = (2, 3, 2)


def signal(tokens: int, seed: int = 0) -> Signal:
    draw = torch.Generator().manual_seed(seed)
    return Signal(torch.rand(*SHAPE, tokens, generator=draw), (1, 4), ("question_mean", "last"))


def pool_by_loops(weights: Tensor, start: int, stop: int, how: Pool) -> Tensor:
    """One span, number by number."""
    out = torch.zeros(SHAPE)
    for place in torch.cartesian_prod(*(torch.arange(n) for n in SHAPE)).tolist():
        inside = [float(weights[(*place, token)]) for token in range(start, stop)]
        if inside:
            pooled = {"sum": sum(inside), "mean": sum(inside) / len(inside), "max": max(inside)}
            out[tuple(place)] = pooled[how]
    return out


@pytest.mark.parametrize("how", ["sum", "mean", "max"])
@settings(max_examples=40)
@given(
    tokens=st.integers(0, 30),
    cuts=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=5),
)
def test_pooling_is_what_loops_over_tokens_give(
    how: Pool, tokens: int, cuts: list[tuple[int, int]]
) -> None:
    spans = [(min(a, b, tokens), min(max(a, b), tokens)) for a, b in cuts]
    weights = signal(tokens).weights
    pooled = signal(tokens).pool(spans, how)
    assert pooled.shape == (len(spans), *SHAPE)
    assert pooled.dtype == torch.float32
    for ours, span in zip(pooled, spans, strict=True):
        torch.testing.assert_close(ours, pool_by_loops(weights, *span, how), atol=FP32, rtol=FP32)


SPANS = st.lists(
    st.tuples(st.integers(0, 90), st.sampled_from([0, 1, 2, 15, 16, 17, 31, 32, 33, 64, 65, 80])),
    min_size=1,
    max_size=6,
)


def spans_within(cuts: list[tuple[int, int]], tokens: int) -> list[tuple[int, int]]:
    return [(min(start, tokens), min(start + length, tokens)) for start, length in cuts]


@settings(max_examples=40)
@given(sequences=st.lists(st.tuples(st.integers(1, 90), SPANS), min_size=1, max_size=4))
def test_sequences_of_one_batch_are_pooled_as_each_alone(
    sequences: list[tuple[int, list[tuple[int, int]]]],
) -> None:
    layers, heads, query_rows = SHAPE
    longest = max(tokens for tokens, _ in sequences)
    draw = torch.Generator().manual_seed(0)
    # before a sequence's own columns those of its title, and after all of them one of zeros
    weights = torch.rand(layers, len(sequences), heads, query_rows, 3 + longest + 1, generator=draw)
    weights[..., -1] = 0
    rows = [
        SharedRows(weights, place, query_rows, place % 3, place % 3 + tokens)
        for place, (tokens, _) in enumerate(sequences)
    ]
    spans = [spans_within(cuts, tokens) for tokens, cuts in sequences]
    sums, best, widths = pool_shared(rows, spans)
    whole = [(one.own(), span) for one, some in zip(rows, spans, strict=True) for span in some]
    assert sums.shape == best.shape == (len(whole), *SHAPE)
    assert widths.shape == (len(whole), 1, 1, 1)
    for pooled, largest, width, (own, (start, stop)) in zip(sums, best, widths, whole, strict=True):
        torch.testing.assert_close(pooled, pool_by_loops(own, start, stop, "sum"))
        torch.testing.assert_close(largest, pool_by_loops(own, start, stop, "max"))
        assert width.item() == max(1, stop - start)


@pytest.mark.parametrize("how", ["sum", "mean", "max"])
@settings(max_examples=20)
@given(tokens=st.integers(1, 90), cuts=SPANS)
def test_a_card_pools_as_the_processor_does(
    how: Pool, tokens: int, cuts: list[tuple[int, int]]
) -> None:
    weights, spans = signal(tokens).weights, spans_within(cuts, tokens)
    with PretendDevice("cuda"):
        pooled = pool_tokens(weights.to("cuda"), spans, how).cpu()
    torch.testing.assert_close(pooled, pool_tokens(weights, spans, how), atol=FP32, rtol=1e-5)


@pytest.mark.parametrize("how", ["sum", "mean", "max"])
def test_many_spans_cost_a_card_no_more_calls_than_few(how: Pool) -> None:
    calls = []
    with PretendDevice("cuda") as device:
        weights = signal(900).weights.to("cuda")
        for count in (4, 40):
            device.reset()
            pool_tokens(weights, [(20 * i, 20 * i + 20) for i in range(count)], how)
            calls.append(device.launches)
    assert calls[0] == calls[1]


@pytest.mark.parametrize("how", ["sum", "mean", "max"])
def test_an_empty_span_pools_to_zero_and_no_spans_to_no_rows(how: Pool) -> None:
    assert not signal(5).pool([(3, 3)], how).any()
    assert signal(5).pool([], how).shape == (0, *SHAPE)
    assert not signal(0).pool([(0, 0)], how).any()


def test_a_token_that_straddles_two_spans_counts_for_both() -> None:
    weights = torch.tensor([0.1, 0.2, 0.4]).expand(1, 1, 1, 3)
    pooled = Signal(weights, (0,), ("last",)).pool([(0, 2), (1, 3)])
    torch.testing.assert_close(pooled.flatten(), torch.tensor([0.3, 0.6]))


def test_a_tiny_share_survives_after_a_large_one() -> None:
    # running totals in fp32 would leave 6e-8 steps and lose all of it
    weights = torch.full((1, 1, 1, 2001), 1e-10)
    weights[..., 0] = 0.9
    pooled = Signal(weights, (0,), ("last",)).pool([(1000, 1010)])
    torch.testing.assert_close(pooled.item(), 1e-9, rtol=1e-4, atol=0)


@pytest.mark.parametrize("how", ["sum", "mean", "max"])
def test_pooling_leaves_the_weights_as_they_were(how: Pool) -> None:
    seen = signal(9)
    before = seen.weights.clone()
    seen.pool([(0, 4), (2, 9)], how)
    assert torch.equal(seen.weights, before)


def test_a_box_filter_averages_existing_tokens_or_pads_with_zeros() -> None:
    scores = torch.tensor([3.0, 0.0, 6.0, 0.0])
    assert box_filter(scores, 3).tolist() == pytest.approx([1.5, 3.0, 2.0, 3.0])
    assert box_filter(scores, 3, padded=True).tolist() == pytest.approx([1.0, 3.0, 2.0, 2.0])
    # an even width reaches one further back: [i - 1, i + 1)
    assert box_filter(scores, 2).tolist() == pytest.approx([3.0, 1.5, 3.0, 3.0])
    assert box_filter(scores, 1).tolist() == scores.tolist()
    assert box_filter(torch.zeros(0), 3).tolist() == []
    with pytest.raises(BadInput, match="width"):
        box_filter(scores, 0)


def test_a_padded_box_filter_is_torchs_convolution() -> None:
    scores = torch.rand(40, generator=torch.Generator().manual_seed(0))
    due = torch.nn.functional.conv1d(scores[None, None], torch.ones(1, 1, 8) / 8, padding=4)
    torch.testing.assert_close(box_filter(scores, 8, padded=True), due[0, 0, :-1])
