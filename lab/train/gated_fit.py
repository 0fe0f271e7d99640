"""The fit of a gated score over many domains (`probes/probing/gated.py` has the score)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tamis.probes.probing.gated import PARTS, GatedFeatures, scale_of, standardise
from tamis_lab.train.fit import TEMPERATURE_L2, domain_weights, listwise_loss

_USUAL_SHARE = 0.99
_UNLIKE_FACTOR = 1.25
"""A request is unlike the training if it is so many times farther from its mean than 99 % of it."""
_SCALE_L2 = 0.01
L2 = {"own": 1e-3, "links": 3e-2, "levels": 1e-3}
"""Factors of the squared norms. Links are held short: where no training domain has two hops they
mislead. Figures: lab/log/domains.md#2026-11-26-judging-a-unit-by-what-surrounds-it."""
_GATE_L2 = 1e-2


@dataclass(frozen=True, slots=True)
class GatedQuestion:
    """One labelled request: its features, which units answer `[U]` bool, and its domain."""

    features: GatedFeatures
    gold: Tensor
    domain: str


def fit_gated(
    questions: Sequence[GatedQuestion], prefix: str = "", steps: int = 60
) -> dict[str, Tensor]:
    """Weights under a softmax over the units of each question, by name.

    Every domain has a temperature of its own while fitting, because some have sharper scores than
    others: what is shared is the order. A domain counts with the square root of its questions.
    """
    stack = _Stack.of(questions)
    tensors = {name: (x - x.mean(0)) / _spread(x) for name, x in stack.columns.items()}
    request = standardise(stack.request, stack.request.mean(0), _spread(stack.request))
    random = torch.Generator().manual_seed(0)
    weights = {
        name: (torch.randn(x.shape[1], generator=random) * 0.01 * (name in PARTS)).requires_grad_()
        for name, x in tensors.items()
    }
    gates = torch.zeros(len(PARTS), request.shape[1], requires_grad=True)
    temperatures = torch.zeros(int(stack.domain.max()) + 1, requires_grad=True)
    free = [*weights.values(), gates, temperatures]
    solver = torch.optim.LBFGS(free, max_iter=steps, history_size=20, line_search_fn="strong_wolfe")

    def scores() -> Tensor:
        shares = torch.sigmoid(request @ gates.T)[stack.question]
        z = stack.base + tensors["own"] @ weights["own"]
        for k, name in enumerate(PARTS):
            z = z + shares[:, k] * (tensors[name] @ weights[name])
        return z

    def closure() -> Tensor:
        solver.zero_grad()
        z = scores()
        loss = listwise_loss(
            z * temperatures.exp()[stack.domain][stack.question], stack.question, stack.share
        )
        for name, w in weights.items():
            loss = loss + L2[name] * w.square().sum()
        loss = loss + _GATE_L2 * gates[:, :-1].square().sum()
        loss = loss + TEMPERATURE_L2 * temperatures.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    solver.step(closure)  # type: ignore[no-untyped-call]
    found = {name: w.detach() / _spread(stack.columns[name]) for name, w in weights.items()}
    found["gates"] = gates.detach()
    found["scale"] = _fit_scale(stack, request, scores().detach())
    found["request"] = torch.stack([stack.request.mean(0), _spread(stack.request)])
    z = (stack.request - stack.request.mean(0)) / _spread(stack.request)
    found["unlike"] = z.square().mean(1).sqrt().quantile(_USUAL_SHARE)[None] * _UNLIKE_FACTOR
    return {f"{prefix}{name}": tensor for name, tensor in found.items()}


def _fit_scale(stack: _Stack, request: Tensor, z: Tensor) -> Tensor:
    """Weights of the scale `[D + 1]` under which the scores are likeliest, whatever the domain."""
    weights = torch.zeros(request.shape[1], requires_grad=True)
    solver = torch.optim.LBFGS([weights], max_iter=40, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        loss = listwise_loss(
            z * scale_of(request, weights)[stack.question], stack.question, stack.share
        )
        loss = loss + _SCALE_L2 * weights.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    solver.step(closure)  # type: ignore[no-untyped-call]
    return weights.detach()


@dataclass(frozen=True, slots=True)
class _Stack:
    """All questions' units, end to end.

    Attributes:
        base: `[N]`. columns: `own` and the parts, `[N, n]` each.
        request: `[Q, D]`. question: of each unit, `[N]`. domain: of each question, `[Q]`.
        share: of each unit among its question's gold, times the question's weight, `[N]`.
    """

    base: Tensor
    columns: Mapping[str, Tensor]
    request: Tensor
    question: Tensor
    domain: Tensor
    share: Tensor

    @classmethod
    def of(cls, questions: Sequence[GatedQuestion]) -> _Stack:
        """The stack of some questions."""
        features = [question.features for question in questions]
        domain, weight = domain_weights([question.domain for question in questions])
        sizes = torch.tensor([len(question.gold) for question in questions])
        owner = torch.repeat_interleave(torch.arange(len(questions)), sizes)
        gold = torch.cat([question.gold for question in questions]).float()
        golds = torch.zeros(len(questions)).index_add(0, owner, gold).clamp_min(1)
        columns = {"own": torch.cat([f.own for f in features]).float()} | {
            name: torch.cat([f.parts[name] for f in features]).float() for name in PARTS
        }
        return cls(
            torch.cat([f.base for f in features]).float(),
            columns,
            torch.stack([f.request for f in features]).float(),
            owner,
            domain,
            gold / golds[owner] * weight[owner],
        )


def _spread(x: Tensor) -> Tensor:
    return x.std(0).clamp_min(1e-4)
