"""ACT, sink share and ZeroTuning: by hand, and by their laws."""

from __future__ import annotations

import pytest
import torch

from lab.tests.methods.window_attention import kit
from tamis.probes.errors import BadInput
from tamis_lab.methods.readings import act, sink_share, zero

every_seed = pytest.mark.parametrize("seed", kit.SEEDS)


def rows(seed, tokens=12):
    return kit.causal(1, 3, tokens, seed)[0, :, -4:]


def test_damped_sinks_by_hand():
    found = act.damp_sinks(
        torch.tensor([0.5, 0.3, 0.2]), torch.tensor([False, True, False]), act.BETA
    )
    assert found.tolist() == pytest.approx([0.6286, 0.12, 0.2514], abs=1e-4)


@every_seed
def test_damping_keeps_the_sum_of_a_row_and_the_order_of_the_rest(seed):
    given = rows(seed)
    sinks = torch.zeros(12, dtype=torch.bool)
    sinks[[3, 5]] = True
    found = act.damp_sinks(given, sinks, 0.4)
    torch.testing.assert_close(found.sum(-1), torch.ones(3, 4))
    assert torch.equal(found[..., ~sinks].argsort(-1), given[..., ~sinks].argsort(-1))
    torch.testing.assert_close(found[..., sinks], given[..., sinks] * 0.4)


@every_seed
def test_without_a_sink_or_with_beta_1_rows_stay_to_the_bit(seed):
    given = rows(seed)
    none, some = torch.zeros(12, dtype=torch.bool), torch.ones(12, dtype=torch.bool)
    some[0] = False
    assert torch.equal(act.damp_sinks(given, none, 0.4), given)
    assert torch.equal(act.damp_sinks(given, some, 1.0), given)


def test_a_row_of_sinks_alone_stays_as_it_is():
    given = torch.tensor([0.0, 1.0])
    assert act.damp_sinks(given, torch.tensor([False, True]), 0.4).tolist() == [0.0, 1.0]


def test_sinks_are_found_by_the_mean_over_the_rows_that_see_them():
    column = torch.full((20,), 0.05)
    column[0], column[4], column[5], column[14] = 15.0, 1.7, 1.4, 3.0
    assert act.find_sinks(column, 0.1).nonzero()[:, 0].tolist() == [4]  # 1.7 of 16, 1.4 of 15 rows


@every_seed
def test_the_reading_calibrates_by_all_rows_of_the_prompt(seed):
    reading = act.Reading(kit.proxy(seed), alpha=0.06)
    window = kit.window(reading)
    full = kit.full_attention(reading.reader, kit.ids_of(reading.reader, kit.QUESTION)).weights
    T = full.shape[-1]
    mean = full.sum(2) / torch.arange(T, 0, -1)
    sinks = (mean > 0.06) & (torch.arange(T, 0, -1) >= 8)
    sinks[..., 0] = False
    assert sinks.any()
    start = window.shape.trunk + window.shape.branches[0][1]
    due = act.damp_sinks(full[:, :, start:], sinks[:, :, None], act.BETA).mean(2)
    ours = reading.token_weights(window, 0)
    torch.testing.assert_close(ours, due[..., window.shape.passage], atol=2e-5, rtol=1e-4)


def test_a_scaled_first_token_by_hand():
    found = zero.scale_first(torch.tensor([0.6, 0.3, 0.1]), 0.5)
    assert found.tolist() == pytest.approx([0.4286, 0.4286, 0.1429], abs=1e-4)


@every_seed
@pytest.mark.parametrize("gamma", [0.2, 1.0, 5.0])
def test_scaling_the_first_token_keeps_sums_and_the_ratios_of_the_others(seed, gamma):
    given = rows(seed)
    found = zero.scale_first(given, gamma)
    torch.testing.assert_close(found.sum(-1), torch.ones(3, 4))
    torch.testing.assert_close(found[..., 2] * given[..., 1], found[..., 1] * given[..., 2])
    assert gamma != 1 or torch.equal(found, given)


@every_seed
def test_in_the_pass_deeper_layers_see_it_and_in_the_reading_they_do_not(seed):
    made = kit.proxy(seed)
    in_pass, after = zero.Reading(made), zero.Reading(made, form="reading")
    same = zero.Reading(made, gamma=1.0)
    plain = kit.window(after).passage_mean(0)
    torch.testing.assert_close(same.token_weights(kit.window(same), 0), plain)
    ours = in_pass.token_weights(kit.window(in_pass), 0)
    late = after.token_weights(kit.window(after), 0)
    torch.testing.assert_close(ours[0], late[0])
    assert (ours[1] - late[1]).abs().max() > 1e-3


@every_seed
def test_the_sink_s_share_lies_between_nothing_and_what_the_passage_leaves(seed):
    reading = sink_share.Reading(kit.proxy(seed))
    window = kit.window(reading)
    sink, rest = sink_share.shares(window, 0)
    passage = window.passage_mean(0).sum(-1)
    assert (sink >= 0).all()
    assert (sink <= 1 - passage + 1e-6).all()
    torch.testing.assert_close(sink + rest + passage, torch.ones_like(sink))
    features = reading.pool(window, kit.SPANS)
    assert features.shape == (2, 2 * kit.LAYERS * kit.HEADS)
    torch.testing.assert_close(features[0].exp(), torch.cat([sink.flatten(), rest.flatten()]))
    due = [1 - float(sink[1, 2])] * 2
    assert reading.score(window, kit.SPANS, [(1, 2)]).tolist() == pytest.approx(due)


def test_options_out_of_range_are_refused():
    for kind, options in ((act, {"beta": 2}), (zero, {"gamma": 0}), (zero, {"form": "late"})):
        with pytest.raises(BadInput, match="give"):
            kind.Reading(kit.proxy(), **options)


def test_the_sink_s_share_by_hand():
    """By hand: of (.6, .2, .1, .1) the sink has .6, the passage .3, the question itself .1."""
    window = kit.hand_made(torch.tensor([[[[0.6, 0.2, 0.1, 0.1]]]]), opening=1)
    reading = sink_share.Reading(kit.proxy())
    found = reading.pool(window, ((0, 1), (1, 2)))
    torch.testing.assert_close(found.exp(), torch.tensor([[0.6, 0.1]] * 2))
    torch.testing.assert_close(reading.score(window, ((0, 2),), None), torch.tensor([0.4]))
