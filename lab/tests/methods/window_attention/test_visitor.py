"""Visited rows and their sums are those of full attention, in blocks of any size."""

from __future__ import annotations

import pytest
import torch

from lab.tests.methods.window_attention import kit
from tamis.probes.errors import BadInput
from tamis.probes.prompt import Prompt
from tamis.probes.signal import Want
from tamis_lab.methods.window_attention import visitor
from tamis_lab.methods.window_attention.row_sums import (
    BandSum,
    BranchRows,
    ColumnSum,
    PathSum,
    SpanSum,
    ValueNorm,
    output_grams,
)
from tamis_lab.methods.window_attention.visited_pass import visit_window
from tamis_lab.methods.window_attention.visitor import PassEdit

ALL = (0, 1)
every_seed = pytest.mark.parametrize("seed", kit.SEEDS)
blocks = pytest.mark.parametrize("rows", [1, 3, 128])


class Case:
    """A decoder, the passage's trunk, two questions after it, and their full attention."""

    def __init__(self, seed: int) -> None:
        self.proxy = kit.proxy(seed)
        self.wholes = [kit.ids_of(self.proxy, text) for text in (kit.QUESTION, "N/A")]
        self.asked = [self.proxy.layout.question_tokens(t) for t in (kit.QUESTION, "N/A")]
        self.branches = [one.ids for one in self.asked]
        self.trunk = self.wholes[0][: -len(self.branches[0])]
        self.full = [kit.full_attention(self.proxy, ids) for ids in self.wholes]
        self.rows = self.full[0].weights[:, :, : len(self.trunk), : len(self.trunk)]

    def visit(self, *visitors, branches=None, layers=ALL, edit=None):
        visit_window(
            self.proxy,
            self.trunk,
            self.branches if branches is None else branches,
            layers,
            visitors,
            edit,
        )
        return [one.result() for one in visitors if hasattr(one, "result")]


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)


@every_seed
@blocks
def test_the_rows_of_each_branch_are_those_of_its_own_whole_prompt(seed, rows, monkeypatch):
    monkeypatch.setattr(visitor, "BLOCK_ROWS", rows)
    case = Case(seed)
    found = case.visit(*(BranchRows(b, len(ids)) for b, ids in enumerate(case.wholes)))
    for ours, full in zip(found, case.full, strict=True):
        close(ours, full.weights[:, :, len(case.trunk) :])


@every_seed
@blocks
def test_every_sum_is_that_of_full_attention(seed, rows, monkeypatch):
    monkeypatch.setattr(visitor, "BLOCK_ROWS", rows)
    case, P = Case(seed), len(Case(seed).trunk)
    at = torch.arange(P)
    back = at[:, None] - at
    grams = output_grams(case.proxy.body)
    column, band, span, far, norms = case.visit(
        ColumnSum(P), BandSum(P, 2, 5), SpanSum(4), SpanSum(), ValueNorm(grams, P),
    )  # fmt: skip
    a = case.rows
    close(column, a.sum(2))
    close(band, (a * ((back >= 2) & (back <= 5))).sum(2))
    close(span, (a * back.clamp(0, 4)).sum(3))
    close(far, (a * back.clamp(0)).sum(3))
    values = case.full[0].values[:, :, :P]
    written = [
        kit.spread(v) @ by_head.transpose(1, 2)
        for v, by_head in zip(values, case.full[0].grams, strict=True)
    ]
    close(norms, torch.stack(written).norm(dim=-1))


def rollout_oracle(weights, cut):
    """R of every layer over the columns from `cut` on, the identity first, written out."""
    mean = weights.mean(1)[:, cut:, cut:]
    mean = mean / mean.sum(-1, keepdim=True)
    paths = [torch.eye(mean.shape[-1])]
    for a in mean:
        paths.append((a + torch.eye(len(a))) / 2 @ paths[-1])
    return paths


@every_seed
@blocks
@pytest.mark.parametrize("cut", [0, 3])
def test_the_path_is_the_product_of_all_layers(seed, rows, cut, monkeypatch):
    monkeypatch.setattr(visitor, "BLOCK_ROWS", rows)
    case = Case(seed)
    P = len(case.trunk)
    firsts = [(len(one.ids), one.first_row) for one in case.asked]
    path = PathSum(P, cut, firsts)
    case.visit(path)
    for branch, full in enumerate(case.full):
        paths = rollout_oracle(full.weights, cut)
        start = P + firsts[branch][1]
        for layer in ALL:
            due = paths[layer + 1][start - cut :, : P - cut].mean(0)
            close(path.rollout[branch][layer], due)
            rows_in = full.weights[layer, :, start:, cut:P].mean(1)
            close(path.traced[branch][layer], rows_in @ paths[layer][: P - cut, : P - cut])
        close(path.above, paths[-1][: P - cut, : P - cut])
    close(path.above.sum(1), torch.ones(P - cut))
    assert (path.above.triu(1) == 0).all()


@every_seed
def test_no_branch_sees_another(seed):
    case = Case(seed)
    tokens = len(case.wholes[0])
    (beside,) = case.visit(BranchRows(0, tokens))
    (alone,) = case.visit(BranchRows(0, tokens), branches=case.branches[:1])
    close(beside, alone)


@every_seed
def test_the_question_s_rows_are_those_of_the_product_s_own_pass(seed):
    case = Case(seed)
    passage = case.proxy.layout.passage_tokens(kit.PASSAGE, kit.SPANS, kit.TITLE)
    (signal,) = case.proxy.read([Prompt(passage, case.asked[0])], Want(ALL, ("question",)))
    (rows,) = case.visit(BranchRows(0, len(case.wholes[0])))
    start = len(case.trunk) - len(kit.PASSAGE)
    close(rows[:, :, case.asked[0].first_row :, start : len(case.trunk)], signal.weights)


class Largest:
    """Remembers the largest block that it was given."""

    def __init__(self):
        self.rows, self.elements = 0, 0

    def visit(self, block):
        self.rows = max(self.rows, block.weights.shape[1])
        self.elements = max(self.elements, block.weights.numel())


def test_no_block_has_more_rows_than_it_may(monkeypatch):
    monkeypatch.setattr(visitor, "BLOCK_ROWS", 5)
    largest, case = Largest(), Case(0)
    case.visit(largest)
    assert largest.rows == 5
    assert largest.elements <= 5 * kit.HEADS * len(case.wholes[0])


class Uniform(PassEdit):
    """Every row of one layer attends to all that it may, alike."""

    def __init__(self, layer):
        self.layer = layer

    def weights(self, layer, weights, first):
        if layer != self.layer:
            return weights
        allowed = (weights > 0).float()
        return allowed / allowed.sum(-1, keepdim=True)


class Silent(PassEdit):
    """Heads of one layer put out nothing."""

    def output(self, layer, output):
        return output * (layer != 0)


def test_an_edit_changes_the_layers_above_it_and_none_below():
    case, tokens = Case(1), len(Case(1).wholes[0])
    (plain,) = case.visit(BranchRows(0, tokens))
    for edit in (Uniform(0), Silent()):
        (edited,) = case.visit(BranchRows(0, tokens), edit=edit)
        assert (edited[1] - plain[1]).abs().max() > 0.01
    (edited,) = case.visit(BranchRows(0, tokens), edit=Uniform(1))
    close(edited[0], plain[0])
    (same,) = case.visit(BranchRows(0, tokens), edit=PassEdit())
    assert torch.equal(same, plain)


def test_layers_that_are_not_wanted_are_not_visited_and_missing_ones_are_refused():
    case = Case(0)
    (rows,) = case.visit(BranchRows(0, len(case.wholes[0])), layers=(1,))
    assert len(rows) == 1
    with pytest.raises(BadInput, match="loaded with 2"):
        case.visit(layers=(5,))
