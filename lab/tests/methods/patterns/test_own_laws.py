"""The hand-computed case and the law of every pattern."""

from __future__ import annotations

import math

import pytest
import torch

from lab.tests.methods.prefill import prefill_kit
from tamis_lab.methods.patterns import (
    dhsa,
    echo,
    flexprefill,
    parallel,
    power,
    sample,
    shared,
    spatten,
    star,
)
from tamis_lab.methods.prefill import contract
from tamis_lab.methods.prefill.contract import BLOCK, PromptShape, fewest
from tamis_lab.methods.prefill.prefill_pass import prefill

SEEDS = range(3)


def drawn(seed, *size):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def rows_of(seed):
    """Queries and keys of five blocks, sampled rows and their weights."""
    q, k = drawn(seed, 4, 300, 8), drawn(seed + 9, 2, 300, 8)
    rows = torch.arange(240, 300)
    return q, k, rows, contract.sampled_weights(q, k, rows)


def spans(*of):
    return torch.tensor(of).view(-1, 2)


def test_streaming_by_hand():
    """By hand: of 21 blocks a window of one has 15, of two 18 (.857), of three 20 (.952)."""
    band = contract.widest_window(torch.zeros(6, 6, dtype=torch.bool), 0.86, 5)
    assert contract.block_density(band, 5) == pytest.approx(18 / 21)
    assert contract.with_forced(band, 5)[4].nonzero()[:, 0].tolist() == [0, 3, 4]


def test_power_by_hand():
    assert power.powers_of_two(16)[13].nonzero()[:, 0].tolist() == [5, 9, 11, 12, 13]


def test_a_distance_is_reached_in_as_many_layers_as_it_has_ones():
    hop = power.powers_of_two(64).float()
    for distance in (7, 11, 31, 32, 63):
        layers = distance.bit_count()
        assert torch.linalg.matrix_power(hop, layers)[63, 63 - distance] > 0
        assert torch.linalg.matrix_power(hop, layers - 1)[63, 63 - distance] == 0


def test_divergence_by_hand():
    found = flexprefill.divergence(torch.tensor([[0.5, 0.5]]), torch.tensor([[1.0, 0.0]]))
    assert found.item() == pytest.approx(0.2158, abs=1e-4)
    assert found.sqrt().item() == pytest.approx(0.4645, abs=1e-4)


@pytest.mark.parametrize("seed", SEEDS)
def test_divergence_is_symmetric_bounded_and_0_for_equal_shares(seed):
    p, q = drawn(seed, 2, 5, 7).softmax(-1)
    torch.testing.assert_close(flexprefill.divergence(p, q), flexprefill.divergence(q, p))
    assert flexprefill.divergence(p, p).abs().max() < 1e-6
    assert flexprefill.divergence(p, q).max() <= math.log(2)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("gamma", [0.5, 0.9])
def test_columns_and_slashes_hold_the_share_of_the_sampled_rows(seed, gamma):
    _, _, rows, weights = rows_of(seed)
    columns, slashes = contract.column_and_slash_masses(weights, rows)
    torch.testing.assert_close(columns.sum(1), torch.ones(4))
    torch.testing.assert_close(slashes.sum(1), torch.ones(4))
    seen = contract.verticals_and_slashes(fewest(columns, gamma), fewest(slashes, gamma))
    at = torch.arange(300) // BLOCK
    visible = seen[:, rows // BLOCK][:, :, at]
    assert ((weights * visible).sum(-1).mean(1) >= gamma - 1e-5).all()


def test_sample_by_hand():
    masses = torch.tensor([[0.25, 0.6, 0.05, 0.1]])
    assert fewest(masses, 0.9).tolist() == [[True, True, False, True]]
    assert fewest(torch.tensor([[0.5, 0.0, 0.5]]), 1.0).tolist() == [[True, False, True]]


def test_sample_reads_rows_from_everywhere():
    """Where the last rows look back to block 0 alone and all others at block 1, block 1 counts."""
    assert sample.STRIDE < BLOCK
    q, k = torch.zeros(1, 320, 2), torch.zeros(1, 320, 2)
    k[:, 64:128, 0], q[:, 128:300, 0] = 9.0, 1.0
    rows = torch.arange(sample.STRIDE - 1, 320, sample.STRIDE)
    columns, _ = contract.column_and_slash_masses(contract.sampled_weights(q, k, rows), rows)
    assert columns[0].argmax() == 1


def test_chunks_by_hand():
    keys = torch.tensor([[[2.0, 0]] * 4 + [[3.0, 0]]])
    found = dhsa.chunk_vectors(keys, torch.tensor([0, 0, 0, 0, 1]))
    assert found.tolist() == [[[4.0, 0], [3.0, 0]]]


@pytest.mark.parametrize("seed", SEEDS)
def test_chunks_of_one_token_are_its_key(seed):
    keys = drawn(seed, 2, 9, 4)
    torch.testing.assert_close(dhsa.chunk_vectors(keys, torch.arange(9)), keys)


def test_every_token_has_a_chunk_and_gaps_are_chunks():
    owner = dhsa.chunk_of_tokens(spans((2, 4), (4, 6), (7, 9)), 10)
    assert owner.tolist() == [0, 0, 1, 1, 2, 2, 3, 4, 4, 5]


def test_star_by_hand():
    assert star.parts_behind_anchor(8, 4)[5].nonzero()[:, 0].tolist() == [0, 1, 4, 5]
    assert star.parts_behind_anchor(8, 1).all()


class _At(contract.Sight):
    def __init__(self, places):
        self.places = places

    def positions(self):
        return self.places


def test_a_part_is_read_as_behind_its_anchor_alone():
    """Parts of one block: the third one's states are those of anchor and part by themselves."""
    made, ids, shape = prefill_kit.proxy(), prefill_kit.ids(), prefill_kit.shape()
    seen = star.parts_behind_anchor(shape.blocks, shape.blocks)
    whole = prefill(made, ids, shape, star.StaticBlocks(seen))
    picked = [*range(64), *range(128, 192)]
    alone = PromptShape(128, 1, prefill_kit.LAYERS, spans(), spans())
    apart = prefill(made, [ids[i] for i in picked], alone, _At(torch.tensor(picked)))
    torch.testing.assert_close(apart.states, whole.states[picked], atol=2e-4, rtol=1e-3)


def test_the_order_of_passages_apart_changes_nothing():
    made, ids, rows = prefill_kit.proxy(), prefill_kit.ids(), prefill_kit.ROWS
    a, b, tail = ids[6:80], ids[80:276], ids[276:]
    first = prefill_kit.shape(((6, 80), (80, 276)))
    second = prefill_kit.shape(((6, 202), (202, 276)))
    one = prefill(made, ids, first, parallel.Pattern(1.0).start(first))
    two = prefill(made, [*ids[:6], *b, *a, *tail], second, parallel.Pattern(1.0).start(second))
    for x, y in zip(one.rows, two.rows, strict=True):
        torch.testing.assert_close(x[..., 6:80], y[..., 202:276], atol=2e-5, rtol=1e-3)
        torch.testing.assert_close(x[..., -rows:], y[..., -rows:], atol=2e-5, rtol=1e-3)


def test_the_question_weighs_the_best_passages_alone():
    shape = PromptShape(8, 2, 2, spans((1, 3), (3, 6)), spans())
    weights = torch.tensor([[[0.1, 0.2, 0.2, 0.1, 0.1, 0.1, 0.2, 0.0]] * 2])
    assert parallel.passage_scores(weights, shape.passages.tolist()).tolist() == pytest.approx(
        [0.4, 0.3]
    )
    sight = parallel.Pattern(0.5).start(shape)
    kept = sight.edit_rows(0, weights)
    assert kept[0, 0].tolist() == pytest.approx([1 / 7, 2 / 7, 2 / 7, 0, 0, 0, 2 / 7, 0])
    assert parallel.Pattern(1.0).start(shape).edit_rows(0, weights) is None


def test_passages_begin_at_one_place_and_the_question_behind_the_longest():
    shape = PromptShape(8, 1, 2, spans((1, 3), (3, 6)), spans())
    assert parallel.Pattern(1.0).start(shape).positions().tolist() == [0, 1, 2, 1, 2, 3, 4, 5]


def test_spatten_by_hand():
    shape = PromptShape(4, 1, 4, spans((0, 3)), spans())
    importance = torch.tensor([0.5, 0.3, 0.2, 0]) + torch.tensor([0.1, 0.2, 0.7, 0])
    assert spatten.best_tokens(importance, 0.75, shape).tolist() == [0, 2, 3]


def test_a_token_of_every_unit_goes_on_however_small_the_share():
    shape = prefill_kit.shape()
    alive = prefill_kit.run("spatten", 0.05).alive[-1]
    for start, stop in shape.units.tolist():
        assert ((alive >= start) & (alive < stop)).any()
    assert torch.isin(torch.arange(prefill_kit.OPENING), alive).all()
    assert len(alive) < shape.tokens / 3


def test_the_share_of_tokens_that_goes_on_is_met():
    assert len(prefill_kit.run("spatten", 0.5).alive[-1]) == prefill_kit.TOKENS // 2


def test_a_run_of_late_layers_by_hand():
    assert shared.late_run(20, 0.85) == {16: 15, 17: 15, 18: 15}
    assert shared.late_run(20, 1.0) == {}
    assert shared.late_run(4, 0.1) == {1: 0, 2: 0}


def test_a_shared_layer_has_the_rows_of_its_source():
    found = prefill_kit.run("shared", 0.5)
    assert found.own == [True, False, False, True]
    assert torch.equal(found.rows[1], found.rows[0])
    assert torch.equal(found.rows[2], found.rows[0])
    assert not torch.equal(found.rows[3], found.rows[0])


def test_similarity_is_symmetric_with_ones_on_the_diagonal():
    found = echo.layer_similarity(prefill_kit.dense().rows)
    torch.testing.assert_close(found, found.T, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.diagonal(), torch.ones(4), atol=1e-4, rtol=0)


def test_runs_of_similar_layers_by_hand():
    alike = torch.eye(6)
    alike[1, 2], alike[1, 3], alike[3, 4] = 0.95, 0.7, 0.92
    assert echo.runs(alike, 0.9) == {2: 1, 4: 3}
    assert echo.runs(alike, 0.99) == {}
    assert echo.runs_at_share(alike, 5 / 6) == {2: 1}


def test_first_and_last_layer_never_share():
    found = echo.runs(torch.ones(7, 7), 0.5)
    assert found == {2: 1, 3: 1, 4: 1, 5: 1}
