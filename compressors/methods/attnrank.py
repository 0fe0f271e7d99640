"""AttnRank: the best passage stands where the model looks most, whatever stands there.

Source: "Attention Basin" (arXiv 2508.05128, §4). Stage 1, once a model: how much attention each
place of a list draws (`tamis heads basin`). Stage 2: the passage of rank i goes to the place of the
i-th most attention. No model runs.

Departures: the profile is of the proxy, the paper's of the model that answers: give `profile` one
of yours where you can measure it; lists of another length than the measured one use straight lines
between its places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from tamis.compressors.method import Info, Models, OrderingMethod
from tamis.compressors.selection.order import best_first
from tamis.probes.probing.position_bias import PositionProfile
from tamis.probes.text import Passage


class AttnRank(OrderingMethod):
    """Places by attention, passages by score."""

    info: ClassVar[Info] = Info(
        "best passages where the model looks most; a profile measured once",
        "AttnRank, arXiv 2508.05128",
        kind="ordering",
    )

    def __init__(
        self, profile: PositionProfile | Path | str = "auto", model: str = "smollm2-135m"
    ) -> None:
        """An order by one model's places.

        Args:
            profile: of places, or its path; `auto` is the one that ships for `model`.

        Raises:
            BadInput: none ships for this model. BadModelFile: the file is damaged.
        """
        if isinstance(profile, PositionProfile):
            self.profile = profile
        elif profile == "auto":
            self.profile = PositionProfile.shipped(model)
        else:
            self.profile = PositionProfile.load(profile)

    @classmethod
    def build(cls, models: Models, options: Mapping[str, Any]) -> Self:
        """By the profile of the proxy that reads, unless another is given."""
        return cls(**{"model": models.proxy_name, **options})

    def order(
        self, question: str, passages: Sequence[Passage], scores: Sequence[float]
    ) -> tuple[int, ...]:
        """The passage of rank i at the place of the i-th most attention."""
        places = best_first(self.profile.at(len(passages)))
        shown = dict(zip(places, best_first(scores), strict=True))
        return tuple(shown[place] for place in range(len(passages)))


Method = AttnRank
