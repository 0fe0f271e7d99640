"""Row coverage, focus directions and buckets: by hand, and by their laws."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from lab.tests.methods.window_attention import kit
from tamis.probes.errors import BadInput, BadModelFile
from tamis_lab.methods.attention_math import rotate
from tamis_lab.methods.readings import buckets, focus, raw, row_coverage
from tamis_lab.methods.window_attention.contract import AskedRows, WindowAttention, WindowShape

every_seed = pytest.mark.parametrize("seed", kit.SEEDS)


def test_features_of_coverage_by_hand():
    m = torch.tensor([[2.0, 0.0], [1.0, 3.0], [0.0, 4.0]])
    found = row_coverage.coverage_features(m)
    spread = torch.tensor([2.0, 3, 4]).std(correction=0)
    assert found[0].tolist() == pytest.approx([1, 0, 2, 1 / 3, 2, 3, float(spread)])
    assert found[1].tolist() == pytest.approx([7 / 3, 0, 4, 2 / 3, 2, 3, float(spread)])


def coverage_window(weights):
    """Question rows over two tokens, after a "N/A" that looks at both alike."""
    n = weights.shape[0]
    rows = torch.cat([weights, torch.zeros(n, n)], 1)[None, None]
    empty = torch.cat([torch.full((2, 2), 0.1), torch.zeros(2, 2)], 1)[None, None]
    shape = WindowShape((1, 2), 0, 0, ((n, 0), (2, 0)), kit.SPANS)
    asked = AskedRows(rows, 0, torch.ones(n).bool()), AskedRows(empty, 0, torch.ones(2).bool())
    return WindowAttention(shape, (0,), asked, {})


UNITS = [(0, 1), (1, 2)]


def test_equal_rows_all_say_what_raw_says():
    m = row_coverage.row_scores(coverage_window(torch.tensor([[0.3, 0.1]] * 3)), UNITS, None)
    features = row_coverage.coverage_features(m)
    log_ratio = torch.tensor([3.0, 1.0]).log()
    torch.testing.assert_close(features[:, :3], log_ratio[:, None].expand(2, 3))


def test_the_order_of_rows_does_not_matter_and_a_blind_row_lowers_the_least_alone():
    given = torch.tensor([[0.3, 0.1], [0.2, 0.4], [0.5, 0.2]])
    one, other = (
        row_coverage.coverage_features(row_coverage.row_scores(coverage_window(w), UNITS, None))
        for w in (given, given.flip(0))
    )
    torch.testing.assert_close(one, other)
    blind = torch.cat([given, torch.tensor([[1e-5, 1e-5]])])
    more = row_coverage.coverage_features(
        row_coverage.row_scores(coverage_window(blind), UNITS, None)
    )
    assert (more[:, 1] < one[:, 1]).all()
    assert torch.equal(more[:, 2], one[:, 2])


def test_only_words_of_the_question_count():
    reading = row_coverage.Reading(kit.proxy())
    window = kit.window(reading)
    words = window.branches[0].words
    start = window.branches[0].first_row
    # cd, then " Who?", then ef: the letters of "Who" alone
    assert words.tolist() == [i in range(start + 1, start + 4) for i in range(len(words))]
    assert row_coverage.row_scores(window, kit.SPANS, None).shape == (3, 2)
    assert reading.pool(window, kit.SPANS).shape == (2, 7)
    assert reading.score(window, kit.SPANS, [(0, 1)]).shape == (2,)


def directions(seed=0, size=1.0):
    draw = torch.Generator().manual_seed(seed)
    return size * torch.randn(kit.LAYERS, kit.HEADS, kit.SIZE, generator=draw)


@every_seed
def test_without_directions_focus_is_raw_to_the_bit(seed):
    made = kit.proxy(seed)
    for given in (None, torch.zeros(kit.LAYERS, kit.HEADS, kit.SIZE)):
        reading = focus.Reading(made, directions=given)
        window = kit.window(reading)
        plain = raw.Reading(made).token_weights(window, 0)
        torch.testing.assert_close(reading.token_weights(window, 0), plain, atol=1e-7, rtol=1e-5)


@every_seed
def test_a_direction_is_a_bias_of_the_query_projection_in_the_question_s_rows(seed):
    """In the first layer, whose states no row below can change, the two must agree."""
    made, d = kit.proxy(seed), directions(seed)
    reading = focus.Reading(made, directions=d, strength=0.7)
    window = kit.window(reading)
    full = kit.full_attention(made, kit.ids_of(made, kit.QUESTION))
    start = window.shape.trunk + window.branches[0].first_row
    T = full.keys.shape[2]
    turned = kit.rotated((0.7 * d[0])[:, None].expand(-1, T, -1)) * kit.SIZE**-0.5
    logits = (full.queries[0] + turned) @ kit.spread(full.keys[0]).transpose(1, 2)
    future = torch.ones(T, T).triu(1).bool()
    due = logits.masked_fill(future, -torch.inf).softmax(-1)[:, start:].mean(1)
    ours = reading.token_weights(window, 0)[0]
    torch.testing.assert_close(ours, due[:, window.shape.passage], atol=2e-5, rtol=1e-4)


def test_a_key_direction_added_after_rotation_would_change_nothing():
    """The departure's reason: it adds q·d_k to every logit of a row alike."""
    q, k = torch.randn(4, 3, 8), torch.randn(2, 9, 8)
    at, none = torch.arange(6, 9), torch.zeros(4, 3, 8)
    moved = focus.focused_rows(q, k + torch.randn(2, 1, 8), none, at)
    torch.testing.assert_close(moved, focus.focused_rows(q, k, none, at), atol=1e-5, rtol=1e-4)


def test_the_gradient_of_a_direction_is_that_of_finite_differences():
    draw = torch.Generator().manual_seed(3)
    q, k = (torch.randn(*s, generator=draw, dtype=torch.float64) for s in ((2, 3, 8), (1, 9, 8)))
    at, gold = torch.arange(6, 9), slice(2, 4)
    body = kit.proxy().body

    def mass(d):
        turned = rotate(body, 0, d[:, None].expand(-1, 3, -1), at).double()
        return focus.focused_rows(q, k, turned, at)[..., gold].sum()

    d = torch.zeros(2, 8, dtype=torch.float64, requires_grad=True)
    mass(d).backward()
    step = torch.zeros(2, 8, dtype=torch.float64)
    step[1, 5] = 1e-2
    slope = float(mass(step) - mass(-step)) / 2e-2
    assert float(d.grad[1, 5]) == pytest.approx(slope, rel=1e-2)


def test_directions_come_from_a_file_and_others_are_refused(tmp_path):
    made = kit.proxy()
    save_file({"directions": directions()}, tmp_path / "d.safetensors")
    read = focus.Reading(made, directions=tmp_path / "d.safetensors")
    assert torch.equal(read.directions, directions())
    with pytest.raises(BadInput, match="directions are"):
        focus.Reading(made, directions=torch.zeros(1, 2, 3))
    with pytest.raises(BadModelFile, match="holds no directions"):
        focus.Reading(made, directions=tmp_path / "none")


@every_seed
def test_buckets_of_the_native_base_alone_are_raw(seed):
    made = kit.proxy(seed)
    reading, plain = buckets.Reading(made, factor=1), raw.Reading(made)
    window, native = kit.window(reading), kit.window(plain)
    torch.testing.assert_close(
        reading.pool(window, kit.SPANS), plain.pool(native, kit.SPANS), atol=1e-4, rtol=1e-4
    )
    order = reading.score(window, kit.SPANS, None).exp()
    torch.testing.assert_close(order, plain.score(native, kit.SPANS, None), atol=1e-5, rtol=1e-3)


@every_seed
def test_the_second_pass_is_that_of_a_model_with_the_other_base(seed, monkeypatch):
    made = kit.proxy(seed)
    reading = buckets.Reading(made, factor=1.9)
    ours = reading.token_weights(kit.window(reading), 0)
    rotated = kit.rotated
    monkeypatch.setattr(kit, "rotated", lambda states: rotated(states, 1.9 * kit.THETA))
    window = kit.window(reading)
    full = kit.full_attention(made, kit.ids_of(made, kit.QUESTION)).weights
    start = window.shape.trunk + window.branches[0].first_row
    due = full[:, :, start:].mean(2)[..., window.shape.passage]
    torch.testing.assert_close(ours, due, atol=2e-5, rtol=1e-3)


def test_a_base_of_nothing_is_refused():
    with pytest.raises(BadInput, match="give a number above 0"):
        buckets.Reading(kit.proxy(), factor=0)


def test_a_direction_by_hand():
    """By hand: a query of nothing, with a direction of 1, weighs keys 0 and ln 3 as 1 to 3."""
    keys = torch.tensor([[[0.0], [math.log(3)]]])
    found = focus.focused_rows(torch.zeros(1, 1, 1), keys, torch.ones(1, 1, 1), torch.tensor([1]))
    torch.testing.assert_close(found[0, 0], torch.tensor([0.25, 0.75]))


def test_two_bases_by_hand():
    """By hand: .4 in one pass and .1 in the other are the root of their product, .2."""
    native, edited = (
        kit.hand_made(torch.tensor([[[[weight, 1 - weight]]]])) for weight in (0.4, 0.1)
    )
    window = replace(edited, native=native)
    reading = buckets.Reading(kit.proxy())
    torch.testing.assert_close(reading.score(window, ((0, 1),), None).exp(), torch.tensor([0.2]))
    torch.testing.assert_close(reading.pool(window, ((0, 1),)).exp(), torch.tensor([[0.2, 0.2]]))


def test_the_last_row_is_read_alone_where_that_is_wanted():
    made = kit.proxy()
    reading = raw.Reading(made, last_row=True)
    window = kit.window(reading)
    rows = window.branches[0].weights[..., window.shape.passage]
    assert torch.equal(reading.token_weights(window, 0), rows[:, :, -1])
    assert not torch.allclose(reading.token_weights(window, 0), window.passage_mean(0))
