"""What was learnt, as adapters that can be loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tamis.probes.hub.adapters import AdapterCard, Adapters
from tamis.service.training.lora.training_run import Lessons


def outcome(lessons: Lessons, curve: Sequence[Mapping[str, Any]], name: str, base: str) -> Adapters:
    """Adapters and their card, with the curve they were learnt along.

    Args:
        name: what the sharpened model shall be called in probes.
        base: where the model they are for is, as `load_proxy` takes it.
    """
    recipe, proxy = lessons.recipe, lessons.proxy
    told = asdict(recipe)
    for elsewhere in ("rank", "scale", "depth", "first_layer"):
        told.pop(elsewhere)
    card = AdapterCard(
        name=name,
        base=base,
        revision=proxy.card.revision,
        template=proxy.layout.template.name,
        rank=recipe.rank,
        scale=recipe.scale,
        layers=tuple(recipe.adapted),
        depth=recipe.depth,
        trained_on=tuple(lessons.facts),
        recipe=told | {"loss": "listwise, softmax over the units shown", "optimizer": "AdamW"},
        figures={"curve": list(curve)},
    )
    pairs = {
        name: (one.a.detach().clone(), one.b.detach().clone())
        for name, one in lessons.pupil.adapters.items()
    }
    return Adapters(pairs, card)
