"""What is read of the passage alone, and value mass: by hand, and by their laws."""

from __future__ import annotations

import math

import pytest
import torch

from lab.tests.methods.window_attention import kit
from tamis.probes.errors import BadInput
from tamis_lab.methods.readings import anchors, local_long, raw, roles, value_mass
from tamis_lab.methods.window_attention.row_sums import BandSum, SpanSum, output_grams
from tamis_lab.methods.window_attention.visitor import RowBlock

every_seed = pytest.mark.parametrize("seed", kit.SEEDS)
NOTHING = torch.zeros(0)


def sums_of(weights, *visitors):
    for layer, a in enumerate(weights):
        for one in visitors:
            one.visit(RowBlock(layer, None, 0, a, NOTHING, NOTHING, NOTHING))
    return [one.result() for one in visitors]


def test_anchors_by_hand():
    a = torch.tensor([[1.0, 0, 0], [0.6, 0.4, 0], [0.2, 0.5, 0.3]])[None, None]
    band, span = sums_of(a, BandSum(3, 1, 2), SpanSum(2))
    assert anchors.band_means(band, 1, 2).flatten().tolist() == pytest.approx([0.4, 0.5, 0])
    assert span.flatten().tolist() == pytest.approx([0, 0.6, 0.9])


@every_seed
def test_anchors_are_shares_and_backward_spans_at_most_their_cap(seed):
    reading = anchors.Reading(kit.proxy(seed), low=1, high=4, most=3)
    window = kit.window(reading)
    fai, waad = reading.token_weights(window, 0), reading.backward_spans(window)
    assert ((fai >= 0) & (fai <= 1)).all()
    assert ((waad >= 0) & (waad <= 3)).all()
    assert fai.shape == (1, 1, len(kit.PASSAGE))
    assert len(waad) == len(kit.PASSAGE)
    torch.testing.assert_close(fai, reading.token_weights(window, 1))


def test_a_head_that_sees_itself_alone_looks_nowhere_back():
    (span,) = sums_of(torch.eye(5)[None, None], SpanSum(3))
    assert span.sum() == 0


def test_the_local_and_the_global_heads_are_the_ends_of_the_order():
    local, far = anchors.spread_heads(torch.arange(10.0).view(2, 5).flip(0))
    assert local.nonzero().tolist() == [[1, 0], [1, 1], [1, 2]]
    assert far.nonzero().tolist() == [[0, 2], [0, 3], [0, 4]]


def test_roles_of_uniform_rows():
    n = 6
    ids, stops = torch.tensor([7, 8, 7, 9, 8, 5]), torch.tensor([0, 0, 0, 1, 0, 0]).bool()
    rows = torch.full((1, 1, n), 1 / n)
    found = roles.role_figures(rows, torch.tensor([4]), ids, stops)[0, 0]
    due = [1 / n, 1 / n, 1 / n, 1 / n, 1 / n, math.log(n)]  # token 1 is the copy of token 4
    assert found.tolist() == pytest.approx(due)


@every_seed
def test_roles_are_averages_over_all_rows_but_the_first(seed):
    reading = roles.Reading(kit.proxy(seed))
    window = kit.window(reading)
    found = window.sums["roles"].result()
    a = kit.full_attention(reading.reader, kit.ids_of(reading.reader, kit.QUESTION)).weights
    P = window.shape.trunk
    a = a[:, :, 1:P, :P]
    text = [reading.reader.layout.tokenizer.token_text(i) for i in window.shape.ids]
    stops = torch.tensor([not any(c.isalnum() for c in t) for t in text])
    assert stops.any()
    torch.testing.assert_close(found[..., 0], a[..., stops].sum(-1).mean(-1), atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(found[..., 1], a[..., 0].mean(-1), atol=2e-5, rtol=1e-4)
    entropy = -(a * a.clamp_min(1e-30).log()).sum(-1).mean(-1)
    torch.testing.assert_close(found[..., 5], entropy, atol=1e-4, rtol=1e-4)
    assert reading.pool(window, kit.SPANS).shape == (2, 6 * kit.LAYERS * kit.HEADS)


def test_the_far_share_by_hand():
    """A hundred far keys at the origin, one of each sign beside it: μ = 0, qᵀΣq = σ² = 1."""
    far = torch.tensor([1.0, -1.0] * 50)[:, None]
    near = torch.tensor([[4.313]])
    keys = torch.cat([far, near])[None]
    share = local_long.far_shares(torch.ones(1, 1, 1), keys, 100, sinks=0, window=0)
    assert float(share) == pytest.approx(0.688, abs=5e-4)


@every_seed
def test_with_constant_far_keys_the_share_is_exact(seed):
    draw = torch.Generator().manual_seed(seed)
    keys = torch.randn(2, 30, 4, generator=draw)
    keys[:, 4:20] = keys[:, 4:5]
    queries = torch.randn(4, 3, 4, generator=draw)
    share = local_long.far_shares(queries, keys, 27, sinks=4, window=7)
    future = torch.arange(30)[None] > torch.arange(27, 30)[:, None]
    logits = queries @ keys.repeat_interleave(2, 0).transpose(1, 2)
    exact = logits.masked_fill(future, -torch.inf).softmax(-1)[..., 4:20].sum(-1)
    torch.testing.assert_close(share, exact)


def test_where_no_token_is_far_the_share_is_0_and_every_unit_has_the_same():
    reading = local_long.Reading(kit.proxy())
    window = kit.window(reading)
    assert window.sums["far_share"].result().abs().max() == 0
    assert reading.pool(window, kit.SPANS).shape == (2, kit.LAYERS * kit.HEADS)
    assert reading.score(window, kit.SPANS, None).tolist() == [0, 0]


def test_value_mass_by_hand():
    a, n = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.1, 1, 2])

    class Norms:
        def result(self):
            return n[None, None]

    rows = torch.cat([a, torch.zeros(1)])[None, None, None]
    window = kit.hand_made(rows, {"value_norm": Norms()})
    found = value_mass.Reading(kit.proxy()).token_weights(window, 0)
    assert found.flatten().tolist() == pytest.approx([0.07, 0.2, 0.2])


@every_seed
def test_scaling_a_head_s_output_scales_that_head_alone(seed):
    made = kit.proxy(seed)
    before = output_grams(made.body)
    with torch.no_grad():
        made.body.layers[1].self_attn.o_proj.weight[:, 2 * kit.SIZE : 3 * kit.SIZE] *= 3
    after = output_grams(made.body)
    ratio = [b.diagonal(dim1=1, dim2=2).sum(1) / a.diagonal(dim1=1, dim2=2).sum(1)
             for a, b in zip(before, after, strict=True)]  # fmt: skip
    torch.testing.assert_close(torch.stack(ratio), torch.tensor([[1.0] * 4, [1, 1, 9, 1]]))


@every_seed
def test_value_mass_is_attention_times_what_is_written(seed):
    reading = value_mass.Reading(kit.proxy(seed))
    window = kit.window(reading)
    full = kit.full_attention(reading.reader, kit.ids_of(reading.reader, kit.QUESTION))
    own = window.shape.passage
    written = torch.stack([
        kit.spread(v) @ by_head.transpose(1, 2)
        for v, by_head in zip(full.values, full.grams, strict=True)
    ]).norm(dim=-1)  # fmt: skip
    plain = raw.Reading(reading.reader).token_weights(window, 0)
    ours = reading.token_weights(window, 0)
    torch.testing.assert_close(ours, plain * written[..., own], atol=2e-5, rtol=1e-4)
    assert (ours >= 0).all()


def test_an_empty_band_is_refused():
    with pytest.raises(BadInput, match="low ≤ high"):
        anchors.Reading(kit.proxy(), low=5, high=4)
