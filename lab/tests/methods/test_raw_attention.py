"""Raw attention by hand: the last row of the last layer, smoothed; and its options."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tamis.compressors.registry import layers_needed
from tamis.probes.errors import BadInput
from tamis_lab.methods.raw_attention import RawAttention, best_token_scores, gaussian_filter
from tests.compressors.methods.attention_kit import signal_of
from tests.scripted import ScriptedReader


def test_raw_attention_is_the_best_token_of_the_last_layers_last_row_over_heads():
    signal = signal_of(
        [[9.0, 9.0, 9.0, 9.0], [0.2, 0.0, 0.4, 0.0]],
        [[9.0, 9.0, 9.0, 9.0], [0.0, 0.4, 0.0, 0.2]],
        layers=2,
    )
    found = best_token_scores(signal, [(0, 2), (2, 4), (1, 1)], sigma=0.0)
    assert found.flatten().tolist() == pytest.approx([0.2, 0.2, 0.0])


def test_raw_attention_is_smoothed_before_the_best_token_is_taken():
    """A lone spike sinks below two adjacent values."""
    row = [0.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.4, 0.4, 0.0, 0.0]
    sharp, soft = (
        best_token_scores(signal_of([row]), [(0, 6), (6, 12)], s).flatten() for s in (0.0, 1.0)
    )
    assert sharp[0] > sharp[1]
    assert soft[0] < soft[1]


def test_all_layers_are_loaded():
    assert layers_needed("raw_attention") is None


@pytest.mark.parametrize("options", [{"sigma": -1}, {"window_tokens": 0}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(BadInput, match="give"):
        RawAttention(ScriptedReader.from_needles("pin"), **options)


@pytest.mark.parametrize("size", [1, 2, 5, 40])
def test_the_gaussian_filter_is_scipys(size):
    from scipy.ndimage import gaussian_filter1d

    scores = torch.rand(size, generator=torch.Generator().manual_seed(size)).double()
    for sigma in (0.0, 0.7, 1.0, 3.0):
        due = gaussian_filter1d(scores.numpy(), sigma) if sigma else scores.numpy()
        np.testing.assert_allclose(gaussian_filter(scores, sigma).numpy(), due, atol=1e-12)
    with pytest.raises(BadInput, match="sigma"):
        gaussian_filter(scores, -1.0)
