"""The result of a training run, as adapters that can be loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor

from tamis.probes.errors import ProbeMismatch
from tamis.probes.hub.adapters import AdapterCard, Adapters
from tamis_lab.train.lora.training_run import TrainingRun


def trained_adapters(
    run: TrainingRun, curve: Sequence[Mapping[str, Any]], name: str, base: str
) -> Adapters:
    """The adapters with their card; the curve of the run goes into the card.

    One that no step has moved is left out, such as of the values of the deepest layer, which no
    row of attention is read above.

    Args:
        name: of the sharpened model, as probes refer to it.
        base: the model that the adapters are for, as `load_proxy` takes it.
    """
    recipe, proxy = run.recipe, run.proxy
    fields = asdict(recipe)
    for own_field in ("rank", "scale", "depth", "first_layer"):  # of the card itself
        fields.pop(own_field)
    card = AdapterCard(
        name=name,
        base=base,
        revision=proxy.card.revision,
        template=proxy.layout.template.name,
        rank=recipe.rank,
        scale=recipe.scale,
        layers=tuple(recipe.adapted_layers),
        depth=recipe.depth,
        trained_on=tuple(run.trained_on),
        recipe=fields | {"loss": "listwise, softmax over the units shown", "optimizer": "AdamW"},
        figures={"curve": list(curve)},
    )
    pairs = {
        name: (adapter.a.detach().clone(), adapter.b.detach().clone())
        for name, adapter in run.student.adapters.items()
        if adapter.b.any()
    }
    return Adapters(pairs, card)


def stack_adapters(above: Adapters, below: Adapters) -> Adapters:
    """Both as one, for the base of those below.

    With A = [A₁; A₂] and B = [B₁ B₂], the changes to each projection add up.

    Args:
        above, below: `above` were trained on the model that `below` make.

    Raises:
        ProbeMismatch: they were trained on another model.
    """
    if above.card.revision != below.revision:
        raise ProbeMismatch(
            f"the adapters were learnt on {above.card.base} at {above.card.revision}, and those "
            f"below make {below.card.name} at {below.revision}"
        )
    ratio = above.card.scale / below.card.scale
    pairs = dict(below.pairs)
    for name, (a, b) in above.pairs.items():
        own, under = (a, b * ratio), pairs.get(name)
        pairs[name] = own if under is None else _stack_pairs(under, own)
    card = replace(
        above.card,
        base=below.card.base,
        revision=below.card.revision,
        rank=max(len(a) for a, _ in pairs.values()),
        scale=below.card.scale,
        layers=tuple(sorted({*above.card.layers, *below.card.layers})),
        trained_on=_add_up((*below.card.trained_on, *above.card.trained_on)),
        recipe={**above.card.recipe, "below": dict(below.card.recipe)},
        figures={**above.card.figures, "below": dict(below.card.figures)},
    )
    return Adapters(pairs, card)


def _stack_pairs(
    under: tuple[Tensor, Tensor], above: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Two adapters of one projection as one."""
    return torch.cat([under[0], above[0]]), torch.cat([under[1], above[1]], 1)


def _add_up(sets: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """Training sets, each once, with all questions that were drawn from it."""
    found: dict[tuple[Any, Any], dict[str, Any]] = {}
    for one in sets:
        key = one.get("name"), one.get("sha256")
        before = found.get(key, {"questions": 0})
        questions = before["questions"] + one.get("questions", 0)
        found[key] = {**before, **one, "questions": questions}
    return tuple(found.values())
