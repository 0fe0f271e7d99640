"""Late interaction: documents ranked by sentence encoders alone, without the proxy.

The cosine of question and document, and the mean over the question's tokens of their best cosine
among the document's (ColBERT, Khattab and Zaharia 2020, arXiv 2004.12832, §3.3), of one or two
encoders, as a weighted sum. Departure: the encoders are as they were published, not trained for
interaction.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import torch

from tamis.compressors.features.likeness import ENGLISH, LikenessJudges
from tamis.compressors.method import MethodInfo, ModelSource, RankingMethod
from tamis.compressors.options import option
from tamis.compressors.types import Ranks
from tamis.probes.errors import BadInput
from tamis.probes.model.encoder import CachedEncoder
from tamis.text.types import Passage, Unit


class LateInteraction(RankingMethod):
    """The default's part of the encoders, by itself: a third of its time."""

    info: ClassVar[MethodInfo] = MethodInfo(
        "cosine and token interaction of the encoders that are installed",
        "ColBERT, arXiv 2004.12832",
        "encoder",
        "reranking",
    )
    first_stage_weight: ClassVar[float] = 0.9

    encoder: Any
    rank_encoders: Sequence[Any] = ()
    encoders: str = option(
        "auto",
        "The encoders that judge, as names with commas, such as minilm-l6,embeddinggemma-300m. "
        "auto is those that are installed.",
    )

    def setup(self) -> None:
        """Leaves the encoders that were not named.

        Raises:
            BadInput: a name is not of an encoder on this machine.
        """
        if self.encoders == "auto":
            return
        wanted = [name.strip() for name in self.encoders.split(",")]
        found = {one.name: one for one in (self.encoder, *self.rank_encoders)}
        if missing := [name for name in wanted if name not in found]:
            raise BadInput(
                f"encoders names {', '.join(map(repr, missing))}; here are {', '.join(found)}; "
                "`tamis models list` shows others, `tamis models pull NAME` fetches one"
            )
        self.rank_encoders = [one for one in self.rank_encoders if one.name in wanted]
        if self.encoder.name not in wanted:
            self.encoder = None

    @classmethod
    def build(cls, models: ModelSource, options: Mapping[str, Any]) -> Self:
        """With the encoder of English, and that of many languages where one is installed.

        Raises:
            ProxyMissing: the encoder of English is not on this machine.
        """
        encoders = (models.encoder(), *models.rank_encoders())
        encoder, *rank_encoders = map(CachedEncoder, encoders)
        return cls(encoder, rank_encoders, **options)

    def rank(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Ranks:
        """The probability that each passage answers; units are not scored."""
        clock = time.perf_counter()
        judges = LikenessJudges.choose(self.encoder, self.rank_encoders, question, passages)
        if judges is None:  # the encoder of English alone, for texts in other letters
            judges = LikenessJudges([self.encoder], ENGLISH)
        z = torch.from_numpy(judges.judge(question, passages) + judges.weights.alone)
        timings = {"read": (time.perf_counter() - clock) * 1e3}
        return Ranks(tuple(z.sigmoid().tolist()), calibrated=True, timings_ms=timings)


Method = LateInteraction
