"""Adapters that were learnt on a sharpened model, joined with its own."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tamis.probes.errors import ProbeMismatch
from tamis.probes.hub import zoo
from tamis.probes.hub.adapters import Adapters
from tamis_lab.train.lora.export import stack_adapters
from tests.probes import tiny
from tests.probes.hub.test_adapters import make_adapters, weights


def test_adapters_on_adapters_are_one_set_for_the_base(tmp_path):
    base, sharp = tiny.save("llama", tmp_path / "llama"), tmp_path / "sharp"
    make_adapters(zoo.load_proxy(base), str(base)).save(sharp)
    above = make_adapters(zoo.load_proxy(sharp, dtype="fp32"), str(sharp), "more", "qkvo", 0.7)
    sets = (
        ({"name": "a", "sha256": "0", "questions": 3},),
        (
            {"name": "a", "sha256": "0", "questions": 2},
            {"name": "b", "sha256": "1", "questions": 2},
        ),
    )
    below, above = (
        Adapters(one.pairs, replace(one.card, trained_on=used))
        for one, used in zip((zoo.adapters_of(sharp), above), sets, strict=True)
    )
    above = above.save(tmp_path / "above")
    both = stack_adapters(above, below).save(tmp_path / "both")
    assert (both.card.base, both.card.revision) == (str(base), below.card.revision)
    assert both.card.rank == 4
    assert [(t["name"], t["questions"]) for t in both.card.trained_on] == [("a", 5), ("b", 2)]
    one, chain = (zoo.load_proxy(tmp_path / name, dtype="fp32") for name in ("both", "above"))
    for mine, theirs in zip(weights(one), weights(chain), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)
    with pytest.raises(ProbeMismatch, match="and those below make more at"):
        stack_adapters(above, both)
    assert zoo.adapters_of(base) is None
