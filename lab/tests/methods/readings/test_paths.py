"""Rollout, traced attention and flow: by hand, by their laws, and against full attention."""

from __future__ import annotations

import pytest
import torch

from lab.tests.methods.window_attention import kit
from tamis_lab.methods.readings import flow, raw, rollout, traced
from tamis_lab.methods.window_attention.row_sums import PathSum
from tamis_lab.methods.window_attention.visitor import RowBlock

HAND = torch.tensor([[1.0, 0.0], [0.5, 0.5]]).expand(2, 1, 2, 2)
"""Two layers of one head over two tokens, as in the paper's notation."""
every_seed = pytest.mark.parametrize("seed", kit.SEEDS)


def blocks(weights, trunk):
    """The rows of a stack `[L, H, T, T]`, the trunk's first, then those of a branch."""
    empty = torch.zeros(0)
    for layer, a in enumerate(weights):
        yield RowBlock(layer, None, 0, a[:, :trunk, :trunk], empty, empty, empty)
        if a.shape[-1] > trunk:
            yield RowBlock(layer, 0, trunk, a[:, trunk:], empty, empty, empty)


def path_of(weights, trunk, cut=0):
    path = PathSum(trunk, cut, [(weights.shape[-1] - trunk, 0)])
    for block in blocks(weights, trunk):
        path.visit(block)
    return path


def window_of(weights, trunk):
    sums = {"path": path_of(weights, trunk)}
    return kit.hand_made(weights[:, :, trunk:], sums)


def test_rollout_by_hand():
    path = PathSum(2, 0, [])
    for block in blocks(HAND, 2):
        path.visit(block)
    assert path.above.tolist() == [[1.0, 0.0], [0.4375, 0.5625]]


@every_seed
def test_with_identity_below_traced_is_raw(seed):
    weights = kit.causal(3, 2, 8, seed)
    weights[:2] = torch.eye(8)
    weights[:2, :, 6:] = kit.causal(2, 2, 8, seed + 9)[:, :, 6:]
    window = window_of(weights, 6)
    reader = kit.proxy(seed)
    ours = traced.Reading(reader).token_weights(window, 0)
    torch.testing.assert_close(ours, raw.Reading(reader).token_weights(window, 0))


@every_seed
def test_in_the_first_layer_traced_is_raw(seed):
    window = window_of(kit.causal(1, 3, 9, seed), 7)
    reader = kit.proxy(seed)
    ours = traced.Reading(reader).token_weights(window, 0)
    torch.testing.assert_close(ours, raw.Reading(reader).token_weights(window, 0))


@every_seed
def test_tracing_moves_mass_and_neither_makes_nor_loses_any(seed):
    weights = kit.causal(3, 2, 9, seed)
    ours = traced.Reading(kit.proxy()).token_weights(window_of(weights, 7), 0)
    torch.testing.assert_close(ours.sum(-1), weights[:, :, 7:, :7].mean(2).sum(-1))
    assert (ours >= 0).all()
    assert (ours[1:] - weights[1:, :, 7:, :7].mean(2)).abs().max() > 0.01


@every_seed
def test_rollout_reads_the_passage_s_part_of_the_whole_product(seed):
    weights = kit.causal(4, 2, 9, seed)
    path = torch.eye(9)
    depths = []
    for a in weights:
        path = (a.mean(0) + torch.eye(9)) / 2 @ path
        depths.append(path[7:, :7].mean(0))
    reading = rollout.Reading(kit.proxy())
    ours = reading.token_weights(window_of(weights, 7), 0)
    torch.testing.assert_close(ours[:, 0], torch.stack(depths))
    units = reading.score(window_of(weights, 7), [(0, 2), (2, 7)], None)
    torch.testing.assert_close(units, torch.stack([depths[-1][:2].mean(), depths[-1][2:].mean()]))


def test_of_the_readings_that_subtract_n_a_nothing_is_left_where_both_ask_alike():
    for kind in (raw, traced, rollout):
        reading = kind.Reading(kit.proxy(), less_empty=True)
        window = kit.window(reading)
        same = kit.WindowAttention(
            window.shape, window.layers, (window.branches[0],) * 2, both_alike(window.sums)
        )
        assert reading.pool(same, kit.SPANS).abs().max() == 0
        assert reading.score(same, kit.SPANS, None).abs().max() < 1e-7


def both_alike(sums):
    for path in sums.values():
        path.rollout[1], path.traced[1] = path.rollout[0], path.traced[0]
    return sums


def test_flow_by_hand():
    capacity = (HAND[:, 0] + torch.eye(2)) / 2
    found = flow.max_flows(capacity, source=1, sinks=range(2))
    assert found.tolist() == pytest.approx([0.5, 0.75], abs=1e-5)
    assert (found / found.sum()).tolist() == pytest.approx([0.4, 0.6], abs=1e-5)


@every_seed
def test_flow_is_at_most_what_runs_into_its_end_and_at_least_what_rollout_finds(seed):
    """Rollout multiplies along each path, flow takes each path's narrowest edge."""
    capacity = (kit.causal(3, 2, 6, seed).mean(1) + torch.eye(6)) / 2
    found = flow.max_flows(capacity, source=5, sinks=range(6))
    assert (found <= capacity[0].sum(0) + 1e-4).all()
    assert (found <= 1 + 1e-4).all()
    path = torch.eye(6)
    for a in capacity:
        path = a @ path
    assert (found >= path[5] - 1e-4).all()


@every_seed
def test_capacities_between_units_are_pooled_from_full_attention(seed):
    reading = flow.Reading(kit.proxy(seed))
    window = kit.window(reading)
    made, shape = reading.reader, window.shape
    full = kit.full_attention(made, kit.ids_of(made, kit.QUESTION)).weights.mean(1)
    cut, first = shape.opening, shape.trunk + shape.branches[0][1]
    nodes = [[shape.passage.start + i for i in range(a, b)] for a, b in kit.SPANS]
    inside = {i for node in nodes for i in node}
    nodes.append([i for i in range(cut, shape.trunk) if i not in inside])
    ends = [*nodes, list(range(shape.trunk, full.shape[-1]))]
    starts = [*nodes, list(range(first, full.shape[-1]))]
    a = full.clone()
    a[:, :, :cut] = 0
    a = a / a.sum(-1, keepdim=True)
    due = torch.stack(
        [torch.stack([a[:, s][:, :, e].sum(-1).mean(-1) for e in ends], -1) for s in starts], 1
    )
    ours = window.sums["capacity"].result()
    torch.testing.assert_close(ours, (due + torch.eye(4)) / 2, atol=2e-5, rtol=1e-4)
    assert reading.score(window, kit.SPANS, None).sum() == pytest.approx(1)
    assert reading.pool(window, kit.SPANS).shape == (2, 1)


def test_traced_by_hand():
    """By hand: below, Ã is ((1, 0), (.25, .75)); a row (.4, .6) goes back to (.55, .45)."""
    weights = torch.zeros(2, 1, 3, 3)
    weights[:, 0, 0, 0] = 1
    weights[:, 0, 1, :2] = 0.5
    weights[:, 0, 2] = torch.tensor([0.4, 0.6, 0.0])
    found = traced.Reading(kit.proxy()).token_weights(window_of(weights, 2), 0)
    torch.testing.assert_close(found[:, 0], torch.tensor([[0.4, 0.6], [0.55, 0.45]]))
