"""Heads scored by hand-computed cases of each paper's formula, and how stable the best are."""

from __future__ import annotations

from math import exp

import pytest
import torch

from tamis.probes.errors import BadInput
from tamis.probes.signal import Signal
from tamis_lab.methods.head_scores import (
    calibrated_mass,
    contrast_score,
    copy_score,
    document_masses,
    needle_mass,
    probe_weights,
)
from tamis_lab.train.heads.bootstrap import stability
from tests.laws.methods import question_probe, scripted_reader


def signal(*heads) -> Signal:
    """One layer; `heads[h][r]` are the weights of a row."""
    return Signal(torch.tensor(heads)[None].float(), (0,), ("question",))


def test_needle_mass_is_the_last_rows_sum_over_the_needles_tokens():
    seen = signal([[0.9, 0.0, 0.0, 0.0], [0.1, 0.2, 0.3, 0.0]], [[0.0] * 4, [0.0, 0.0, 0.1, 0.4]])
    assert needle_mass(seen, [(1, 3)])[0].tolist() == pytest.approx([0.5, 0.1])
    assert needle_mass(seen, [(1, 2), (3, 4)])[0].tolist() == pytest.approx([0.2, 0.4])


def test_document_masses_are_means_of_all_rows_and_sums_of_tokens():
    seen = signal([[0.8, 0.0, 0.0, 0.0], [0.1, 0.2, 0.3, 0.0]])
    masses = document_masses(seen, [(0, 2), (2, 4)])
    assert masses[:, 0, 0].tolist() == pytest.approx([(0.8 + 0.3) / 2, 0.15])


def test_contrast_is_the_golds_share_of_a_softmax_over_it_and_the_negatives():
    masses = torch.tensor([0.3, 0.1, 0.2])[:, None, None]
    due = exp(3) / (exp(3) + exp(1) + exp(2))
    assert contrast_score(masses, [0], 0.1).item() == pytest.approx(due)
    # two golds do not compete with each other
    both = (exp(3) / (exp(3) + exp(1)) + exp(2) / (exp(2) + exp(1))) / 2
    assert contrast_score(masses, [0, 2], 0.1).item() == pytest.approx(both)


@pytest.mark.parametrize("gold", [[], [0, 1, 2]])
def test_contrast_needs_gold_and_others(gold):
    with pytest.raises(BadInput, match="others"):
        contrast_score(torch.zeros(3, 1, 1), gold, 0.1)


def test_calibrated_mass_subtracts_the_empty_question_and_drops_what_is_abnormally_low():
    asked = signal([[0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.0, 0.3]])
    empty = signal([[0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.9, 0.0]])
    found = calibrated_mass(asked, empty, [(0, 7), (7, 8)], [0])
    # 6 tokens of .1; the seventh, -.9, lies below the mean of -.043 less twice .35
    assert found.item() == pytest.approx(0.6)


def test_a_head_copies_where_its_strongest_key_is_the_next_answer_token():
    passage, answer = [5, 6, 7, 8], [6, 7]
    hit, miss = [0.0, 0.9, 0.0, 0.0], [0.0, 0.0, 0.0, 0.9]
    here = [0.0, 0.0, 0.9, 0.0]
    found = copy_score(signal([hit, here], [hit, miss], [here, hit]), passage, answer, (1, 3))
    assert found[0].tolist() == [1.0, 0.5, 0.0]


def test_a_copy_outside_the_needle_or_weaker_than_the_rest_does_not_count():
    passage, answer = [6, 5, 6], [6]
    outside, weak = [[0.9, 0.0, 0.0]], [[0.0, 0.0, 0.3]]
    found = copy_score(signal(outside, weak), passage, answer, (1, 3))
    assert found[0].tolist() == [0.0, 0.0]
    with pytest.raises(BadInput, match="rows and keys"):
        copy_score(signal(weak), passage, [6, 5], (1, 3))


def test_probe_weights_add_both_features_and_are_zero_for_layers_not_read():
    reader = scripted_reader()
    probe = question_probe(reader)
    found = probe_weights(probe, 6)
    first = probe.weights["first"]
    assert found.shape == (6, 2)
    assert found[1, 1].item() == pytest.approx((first[3] + first[8 + 3]).item())
    assert found[4:].abs().sum() == 0


def test_heads_that_win_every_case_are_stable_and_heads_by_chance_are_not():
    draw = torch.Generator().manual_seed(0)
    noise = torch.rand(40, 5, 4, generator=draw)
    clear = noise.clone()
    clear[:, 2, :2] += 2
    assert stability(clear, [2, 100]) == {"2": 1.0}
    assert stability(noise, [2])["2"] < 0.7
    assert stability(noise[:1], [2]) == {}  # one case drawn again is itself
