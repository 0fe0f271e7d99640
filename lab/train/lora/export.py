"""The result of a training run, as adapters that can be loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

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
