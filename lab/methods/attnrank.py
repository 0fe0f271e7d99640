"""AttnRank: the best passage goes where the model attends most, whatever is there.

Source: "Attention Basin" (arXiv 2508.05128, §4). Stage 1, once for each model: how much attention
each place of a list draws (`tamis lab heads basin`). Stage 2: the passage of rank i goes to the
place of the i-th most attention. No model runs.

Departures: the profile is of the proxy, the paper's of the model that answers: give one as
`profile` where you can measure it; for lists of another length than the measured one the profile is
interpolated linearly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from tamis.compressors.method import MethodInfo, ModelSource, OrderingMethod, best_first
from tamis.compressors.options import option
from tamis.text.types import Passage
from tamis_lab.methods.position_bias import PositionProfile


class AttnRank(OrderingMethod):
    """Puts the passages by score into the places by attention."""

    info: ClassVar[MethodInfo] = MethodInfo(
        "best passages where the model looks most; a profile measured once",
        "AttnRank, arXiv 2508.05128",
        kind="ordering",
        research=True,
    )

    profile: Any = option(
        "auto",
        "A profile of places, or its file; auto is the one that ships for the model.",
        takes=PositionProfile | Path | str,
    )
    model: str = option("smollm2-135m", "Whose profile is taken where auto is.")

    def setup(self) -> None:
        """Loads the profile.

        Raises:
            BadInput: none ships for this model. BadModelFile: the file is damaged.
        """
        if self.profile == "auto":
            self.profile = PositionProfile.load_shipped(self.model)
        elif not isinstance(self.profile, PositionProfile):
            self.profile = PositionProfile.load(self.profile)

    @classmethod
    def build(cls, models: ModelSource, options: Mapping[str, Any]) -> Self:
        """The method with the profile of the proxy that reads, unless another is given."""
        return cls(**{"model": models.proxy_name, **options})

    def order(
        self, question: str, passages: Sequence[Passage], scores: Sequence[float]
    ) -> tuple[int, ...]:
        """Puts the i-th best passage where the i-th most attention falls."""
        places = best_first(self.profile.shares_for(len(passages)))
        passage_at = dict(zip(places, best_first(scores), strict=True))
        return tuple(passage_at[place] for place in range(len(passages)))


Method = AttnRank
