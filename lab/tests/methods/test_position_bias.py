"""The attention basin: which layer shows it, other lengths, the file."""

from __future__ import annotations

import pytest

from tamis.probes.errors import BadInput, BadModelFile
from tamis_lab.methods.position_bias import PositionProfile, bias_ratio, biased_layer

FLAT, DEEP = (0.25, 0.25, 0.25, 0.25), (0.4, 0.1, 0.1, 0.4)


def profile(*by_layer, layer=0) -> PositionProfile:
    return PositionProfile("m", "r", "chatml", by_layer, layer, True, 3)


def test_the_ratio_is_of_the_lower_end_to_the_middles_mean():
    assert bias_ratio((0.3, 0.1, 0.2, 0.4)) == pytest.approx(0.3 / 0.15)


def test_the_shallowest_layer_that_shows_position_bias_is_used():
    assert biased_layer([FLAT, DEEP, DEEP]) == (1, True)
    assert biased_layer([FLAT, (0.3, 0.25, 0.25, 0.3), FLAT]) == (1, False)


def test_shares_for_other_lengths_are_interpolated_linearly():
    measured = profile((0.4, 0.2, 0.1, 0.3))
    assert measured.shares_for(4) == pytest.approx([0.4, 0.2, 0.1, 0.3])
    assert measured.shares_for(7) == pytest.approx([0.4, 0.3, 0.2, 0.15, 0.1, 0.2, 0.3])
    assert measured.shares_for(2) == pytest.approx([0.4, 0.3])
    assert measured.shares_for(1) == pytest.approx([0.4])


def test_a_profile_is_read_back_as_it_was_written(tmp_path):
    given = profile(FLAT, DEEP, layer=1)
    given.save(tmp_path / "b.json")
    assert PositionProfile.load(tmp_path / "b.json") == given
    (tmp_path / "b.json").write_text("{}")
    with pytest.raises(BadModelFile, match="basin"):
        PositionProfile.load(tmp_path / "b.json")


def test_the_default_proxys_profile_ships_and_others_are_an_error_with_the_command():
    assert len(PositionProfile.load_shipped("smollm2-135m").shares) == 10
    with pytest.raises(BadInput, match="tamis lab heads basin --proxy nobody"):
        PositionProfile.load_shipped("nobody")
