"""What holds for every file in `patterns/`."""

from __future__ import annotations

import pytest
import torch

from lab.tests.methods.prefill import prefill_kit
from tamis.probes.errors import BadInput, UnknownMethod
from tamis_lab.methods import registry
from tamis_lab.methods.prefill.contract import causal_blocks

every_pattern = pytest.mark.parametrize("name", registry.PATTERNS.names())
ONE_PASSAGE = ((6, 276),)


@every_pattern
def test_share_1_over_one_passage_is_the_dense_pass(name):
    found, due = prefill_kit.run(name, 1.0, prefill_kit.shape(ONE_PASSAGE)), prefill_kit.dense()
    rows = zip(found.rows, due.rows, strict=True)
    for own, dense in rows:
        torch.testing.assert_close(own, dense, atol=2e-5, rtol=1e-3)
    torch.testing.assert_close(found.states, due.states, atol=2e-4, rtol=1e-3)
    assert found.density == 1


@every_pattern
def test_what_is_seen_is_causal_and_holds_what_every_pattern_sees(name):
    found, shape = prefill_kit.run(name, 0.3), prefill_kit.shape()
    for seen in found.seen:
        if seen is not None:
            assert not (seen & ~causal_blocks(shape.blocks)).any()
            assert seen.diagonal(dim1=1, dim2=2).all()
            assert seen[:, :, 0].all()
            assert seen[:, shape.dense_from :][
                :, causal_blocks(shape.blocks)[shape.dense_from :]
            ].all()


@every_pattern
def test_density_is_of_the_blocks_that_were_multiplied(name):
    found, shape = prefill_kit.run(name, 0.3), prefill_kit.shape()
    whole = float(causal_blocks(shape.blocks).sum()) * 2
    due = 0.0
    for seen, alive, own in list(zip(found.seen, found.alive, found.own, strict=True))[:-1]:
        blocks = -(-len(alive) // 64)
        all_of = float(causal_blocks(blocks).sum()) * 2
        due += (all_of if seen is None else float(seen.sum())) * (1 if own else 0.5)
    assert found.density == pytest.approx(due / (whole * (prefill_kit.LAYERS - 1)))


@every_pattern
def test_tokens_that_stop_never_return_and_no_row_of_the_question_stops(name):
    found, shape = prefill_kit.run(name, 0.3), prefill_kit.shape()
    asked = torch.arange(shape.context, shape.tokens)
    for before, after in zip(found.alive, found.alive[1:], strict=False):
        assert torch.isin(after, before).all()
        assert torch.isin(asked, after).all()


@every_pattern
def test_a_larger_share_never_computes_less(name):
    found = [prefill_kit.run(name, share).products for share in (0.3, 0.6, 1.0)]
    assert found == sorted(found)


@every_pattern
def test_rows_sum_to_1(name):
    for rows in prefill_kit.run(name, 0.3).rows:
        torch.testing.assert_close(rows.sum(-1), torch.ones(rows.shape[:2]))


@every_pattern
def test_it_says_what_it_is_and_where_it_comes_from(name):
    info = registry.PATTERNS.info(name)
    assert info == registry.PATTERNS.load(name).info
    assert info.source.startswith("arXiv ")


def test_a_share_or_a_name_that_is_not_there_is_refused():
    with pytest.raises(BadInput, match="above 0 and at most 1"):
        registry.PATTERNS.load("streaming")(0.0)
    with pytest.raises(BadInput, match="similarity"):
        registry.PATTERNS.load("echo")(0.5)
    with pytest.raises(UnknownMethod, match="did you mean 'star'"):
        registry.PATTERNS.load("sta")
