"""The settings of a training run: every number that changes its result."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tamis.probes.errors import BadInput
from tamis_lab.train.lora.lowrank import PROJECTIONS


@dataclass(frozen=True, slots=True)
class LoraRecipe:
    """How adapters are learnt.

    Attributes:
        depth: layers that are read, from the first; deeper ones are not even loaded.
        first_layer: the first that is adapted; below it, nothing has a gradient.
        rank, scale: of the adapters.
        projections: that are adapted, a letter each: q(uery), k(ey), v(alue), o(utput).
        rate: the highest learning rate of the adapters; `head_rate`: of the linear heads.
        batch: questions a step.
        warm: the share of the steps in which the rate rises; then it falls along a cosine.
        clip: the largest norm of a step's gradient.
        question_tokens: of the passages shown with a question: all that hold gold, then others up
            to so many.
        window_tokens: longer passages are cut between sentences.
        seed: of the adapters, of the order of the questions, and of the passages shown with them.
    """

    depth: int
    first_layer: int
    rank: int = 8
    scale: float = 2.0
    projections: str = "qk"
    rate: float = 1e-3
    head_rate: float = 5e-4
    batch: int = 4
    warm: float = 0.05
    clip: float = 1.0
    question_tokens: int = 400
    window_tokens: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.first_layer < self.depth:
            raise BadInput(
                f"the first adapted layer is {self.first_layer} and {self.depth} are read; "
                f"give 0 to {self.depth - 1}"
            )
        kinds = self.projections
        if not kinds or set(kinds) - set(PROJECTIONS) or len(set(kinds)) < len(kinds):
            raise BadInput(
                f"projections is {kinds!r}; give some of the letters of {PROJECTIONS}, each once"
            )

    @property
    def adapted_layers(self) -> range:
        """The layers with adapters."""
        return range(self.first_layer, self.depth)

    def learning_rate_share(self, step: int, steps: int) -> float:
        """The learning rate at a step, as a share of the highest."""
        warm = max(1, round(self.warm * steps))
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
