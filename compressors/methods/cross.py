"""A cross-encoder: documents ranked by an encoder that reads each with the question.

Nogueira and Cho 2019 (arXiv 1901.04085): question and passage are one input. Departure: the encoder
is all-MiniLM-L6-v2 with adapters, taught by larger encoders and by judged passages; its score adds
the cosine and the late interaction of the states of the two texts.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from tamis.compressors.features.bm25 import whole_texts
from tamis.compressors.features.words import NamedTexts
from tamis.compressors.method import MethodInfo, ModelSource, RankingMethod
from tamis.compressors.options import option
from tamis.compressors.registry import CROSS_ENCODERS, DEFAULT_ENCODER
from tamis.compressors.types import Ranks
from tamis.probes.errors import BadInput
from tamis.text.language import is_latin
from tamis.text.types import Passage, Unit

_NAMES = " or ".join(CROSS_ENCODERS)
_ENGLISH_ALONE = "cross knows English alone; question_rows ranks other languages"


class Cross(RankingMethod):
    """One pass of 22M weights over question and document together."""

    info: ClassVar[MethodInfo] = MethodInfo(
        "question and document read together by a 22M cross-encoder",
        "cross-encoder, arXiv 1901.04085",
        "encoder",
        "reranking",
    )
    first_stage_weight: ClassVar[float] = 0.9

    encoder: Any
    model: str = option(
        DEFAULT_ENCODER,
        "The cross-encoder: minilm-l6 with adapters of tamis, or ms-marco-minilm-l12, a published "
        "one at twice the time (`tamis models pull ms-marco-minilm-l12`).",
    )

    @classmethod
    def build(cls, models: ModelSource, options: Mapping[str, Any]) -> Self:
        """With the cross-encoder that is named.

        Raises:
            ProxyMissing: it is not on this machine. BadInput: there is none of that name.
        """
        name = str(options.get("model", cls.model))
        if name not in CROSS_ENCODERS:
            raise BadInput(f"there is no cross-encoder {name!r:.80}; give {_NAMES}")
        return cls(models.cross_encoder(name), **options)

    def rank(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Ranks:
        """The probability that each passage answers; units are not scored.

        What has an identifier of the question is raised, as in all rankings (features/words.py).
        """
        clock = time.perf_counter()
        texts = whole_texts(passages)
        z = self.encoder.score(question, texts).double().numpy()
        if named := NamedTexts.find(question, lambda: texts):
            z = named.raise_scores(z)
        timings = {"read": (time.perf_counter() - clock) * 1e3}
        values = tuple((1 / (1 + np.exp(-z))).tolist())
        warnings = () if is_latin(question, texts) else (_ENGLISH_ALONE,)
        return Ranks(values, calibrated=True, timings_ms=timings, warnings=warnings)


Method = Cross
