"""Attention in chosen blocks against masked softmax, and the pass against full attention."""

from __future__ import annotations

import pytest
import torch

from lab.tests.methods.prefill import prefill_kit
from lab.tests.methods.window_attention import kit
from tamis.probes.errors import BadInput
from tamis.probes.prompt import Prompt
from tamis.probes.signal import Want
from tamis_lab.methods.prefill import block_attention, contract
from tamis_lab.methods.prefill.contract import BLOCK, PromptShape
from tamis_lab.methods.prefill.prefill_pass import prefill

SEEDS = range(3)


def states(seed, tokens=200):
    draw = torch.Generator().manual_seed(seed)
    q = torch.randn(4, tokens, 8, generator=draw)
    k, v = torch.randn(2, 2, tokens, 8, generator=draw)
    blocks = -(-tokens // BLOCK)
    chosen = torch.rand(2, blocks, blocks, generator=draw) < 0.5
    return q, k, v, contract.with_forced(chosen, blocks)


def masked_softmax(q, k, v, seen, segments=None):
    """Every weight at once: the slow way."""
    at = torch.arange(q.shape[1])
    mask = seen[:, at // BLOCK][:, :, at // BLOCK] & (at <= at[:, None])
    if segments is not None:
        other = segments[:, None] != segments
        mask = mask & ~(other & (segments >= 0) & (segments[:, None] >= 0))
    k, v, mask = (x.repeat_interleave(2, 0) for x in (k, v, mask))
    weights = (q @ k.mT).masked_fill(~mask, -torch.inf).softmax(-1)
    return (weights @ v).transpose(0, 1)


@pytest.mark.parametrize("seed", SEEDS)
def test_chosen_blocks_are_a_masked_softmax(seed):
    q, k, v, seen = states(seed)
    found = block_attention.attend_blocks(q, k, v, seen)
    torch.testing.assert_close(found, masked_softmax(q, k, v, seen), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("seed", SEEDS)
def test_segments_do_not_see_each_other(seed):
    q, k, v, seen = states(seed)
    segments = torch.arange(200) // 50 - 1
    found = block_attention.attend_blocks(q, k, v, seen, segments)
    due = masked_softmax(q, k, v, seen, segments)
    torch.testing.assert_close(found, due, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("seed", SEEDS)
def test_all_blocks_are_dense_attention(seed):
    q, k, v, _ = states(seed)
    found = block_attention.attend_blocks(q, k, v, block_attention.whole(200, 2))
    due = block_attention.attend_dense(q, k, v)
    torch.testing.assert_close(found, due, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_later_key_moves_no_earlier_row(seed):
    q, k, v, seen = states(seed)
    before = block_attention.attend_blocks(q, k, v, seen)
    k[:, 150:], v[:, 150:] = 9.0, 9.0
    after = block_attention.attend_blocks(q, k, v, seen)
    assert torch.equal(before[:150], after[:150])
    assert not torch.equal(before[150:], after[150:])


@pytest.mark.parametrize("seed", SEEDS)
def test_weights_that_are_kept_give_the_same_output_again(seed):
    q, k, v, seen = states(seed)
    kept = block_attention.BlockWeights()
    due = block_attention.attend_blocks(q, k, v, seen, kept=kept)
    assert torch.equal(block_attention.reuse_weights(kept, v, 4), due)


def test_the_dense_pass_records_the_rows_of_full_attention():
    made = prefill_kit.proxy()
    full = kit.full_attention(made, prefill_kit.ids())
    found = prefill_kit.dense()
    due = full.weights[:, :, -prefill_kit.ROWS :]
    torch.testing.assert_close(torch.stack(found.rows), due, atol=2e-4, rtol=1e-3)
    assert found.density == 1


def test_the_dense_pass_reads_what_the_product_reads():
    made = prefill_kit.proxy()
    passage = made.layout.passage_tokens(kit.PASSAGE, kit.SPANS, kit.TITLE)
    asked = made.layout.question_tokens(kit.QUESTION)
    (signal,) = made.read([Prompt(passage, asked)], Want((0, 1, 2, 3)))
    first, stop = len(made.layout.opening), len(made.layout.opening) + len(passage.ids)
    ids = [*made.layout.opening, *passage.ids, *asked.ids]
    spans = torch.tensor([[first, stop]])
    shape = PromptShape(len(ids), len(asked.ids) - asked.first_row, 4, spans, spans)
    rows = torch.stack(prefill(made, ids, shape).rows).mean(2)
    due = signal.weights[:, :, 0]
    torch.testing.assert_close(
        rows[..., first + passage.title_tokens : stop], due, atol=2e-4, rtol=1e-3
    )


def test_what_a_pass_cannot_run_is_refused():
    made, shape = prefill_kit.proxy(), prefill_kit.shape()
    with pytest.raises(BadInput, match="do not agree"):
        prefill(made, prefill_kit.ids(tokens=299), shape)
    with pytest.raises(BadInput, match="takes fewer"):
        prefill(made, [1] * 513, shape)
