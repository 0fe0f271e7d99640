"""Attention in blocks of rows against attention written out in fp32."""

import itertools
import math

import pytest
import torch

from tamis.probes.attention import packed

HEADS, KV_HEADS, SIZE = 6, 2, 16


def states(new, past, dtype=torch.bfloat16, seed=0):
    """Query `[H, n, d]`, key and value `[Hkv, past + n, d]`, laid as a projection leaves them."""
    chance = torch.Generator().manual_seed(seed)
    query = torch.randn(new, HEADS, SIZE, generator=chance).to(dtype).transpose(0, 1)
    key, value = (
        torch.randn(past + new, KV_HEADS, SIZE, generator=chance).to(dtype).transpose(0, 1)
        for _ in range(2)
    )
    return query, key, value


def reference_weights(query, key, scale):
    """One softmax over all keys, in fp32: `[H, n, N]`."""
    key = key.float().repeat_interleave(query.shape[0] // key.shape[0], 0)
    logits = query.float() @ key.transpose(1, 2) * scale
    new, keys = query.shape[1], key.shape[1]
    return (logits + torch.full((new, keys), -math.inf).triu(1 + keys - new)).softmax(-1)


def reference_attention(query, key, value, scale):
    """What is seen with those weights: `[n, H, d]`."""
    value = value.float().repeat_interleave(query.shape[0] // value.shape[0], 0)
    return (reference_weights(query, key, scale) @ value).transpose(0, 1)


@pytest.mark.parametrize("past", [0, 1, 37])
@pytest.mark.parametrize("new", [1, 31, 32, 33, 128, 129, 300])
def test_blocks_see_what_attention_written_out_sees(new, past):
    query, key, value = states(new, past)
    found = packed.block_attention(query, key, value, 0.3)[0]
    wanted = reference_attention(query, key, value, 0.3)
    assert found.shape == wanted.shape
    assert found.dtype == torch.bfloat16
    # a weight, a logit and a sum are each rounded to eight bits
    assert (found.float() - wanted).abs().max() < 3 * 2**-8 * value.abs().max()


def test_in_fp32_nothing_is_rounded():
    query, key, value = states(200, 5, torch.float32)
    found = packed.block_attention(query, key, value, 0.25)[0]
    torch.testing.assert_close(
        found, reference_attention(query, key, value, 0.25), atol=1e-5, rtol=1e-5
    )


def test_no_row_sees_a_later_token():
    query, key, value = states(200, 5)
    before = packed.block_attention(query, key, value, 0.25)[0]
    key, value = key.clone(), value.clone()
    key[:, 105:] = value[:, 105:] = 100.0
    after = packed.block_attention(query, key, value, 0.25)[0]
    assert torch.equal(before[:100], after[:100])
    assert not torch.equal(before[100:], after[100:])


@pytest.mark.parametrize("rows", [1, 7, 128])
@pytest.mark.parametrize("through", [True, False])
def test_weights_of_the_last_rows_come_with_it(rows, through):
    query, key, value = states(150, 5, torch.float32)
    seen, weights = packed.block_attention(query, key, value, 0.25, rows, through)
    exact = reference_weights(query, key, 0.25)
    torch.testing.assert_close(weights, exact[:, 150 - rows :], atol=1e-6, rtol=1e-5)
    if through:
        everything = packed.block_attention(query, key, value, 0.25)[0]
        torch.testing.assert_close(seen, everything, atol=1e-5, rtol=1e-5)
    assert len(seen) == (150 if through else 0)


@pytest.mark.parametrize("weights", [1, 10_000, 1 << 20, 1 << 30])
@pytest.mark.parametrize("rows", [1, 31, 32, 33, 129, 5000])
def test_blocks_partition_the_rows_within_their_bounds(rows, weights):
    blocks = packed._blocks(rows, weights)
    assert blocks[0][0] == 0
    assert blocks[-1][1] == rows
    assert all(a[1] == b[0] for a, b in itertools.pairwise(blocks))
    sizes = [stop - start for start, stop in blocks]
    most = min(128, max(32, packed.BLOCK_WEIGHTS // weights))
    assert max(sizes) <= most
    assert max(sizes) - min(sizes) <= 1


def test_tiles_and_other_dtypes_are_left_to_torch(monkeypatch):
    query = torch.zeros(1, 1, 1)
    monkeypatch.setattr(packed, "can_fuse", lambda states: states.dtype == torch.bfloat16)
    monkeypatch.setattr(packed, "_HAS_TILES", False)
    assert packed.blocks_are_faster(query.bfloat16())
    assert not packed.blocks_are_faster(query)
    monkeypatch.setattr(packed, "_HAS_TILES", True)
    assert not packed.blocks_are_faster(query.bfloat16())
