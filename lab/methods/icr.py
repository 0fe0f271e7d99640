"""ICR: in-context reranking as published, every head.

Source: "Attention in Large Language Models Yields Efficient Zero-Shot Re-Rankers", arXiv
2410.02642, §3. All documents in one prompt under labels `[1]`, `[2]`, ..., an instruction, the
query; the rows of instruction, query and suffix, averaged; all layers and heads, summed; minus the
same for the query "N/A"; in each document tokens at or below mean - 2·deviation dropped, the rest
summed, not divided by its length. The document given first comes last, next to the query.

Departures: those of `in_context.py`, so of a model with sliding windows only the layers
without one are "all layers"; titles are on a line before their document.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from tamis.compressors.method import MethodInfo, RankingMethod
from tamis.compressors.reading.windows import Reader
from tamis.compressors.types import Ranks
from tamis.probes.text import Passage, Unit
from tamis_lab.methods.in_context import InContextRanker, PromptForm


class ICR(RankingMethod):
    """Ranks by every head of every layer, calibrated."""

    info: ClassVar[MethodInfo] = MethodInfo(
        "all documents in one prompt, every head, minus what the query N/A draws",
        "ICR, arXiv 2410.02642",
        "proxy",
        "reranking",
    )

    def __init__(
        self,
        reader: Reader,
        window_tokens: int | None = None,
        reverse: bool = True,
        calibrate: bool = True,
        answer: bool = False,
    ) -> None:
        """A method over one proxy, with the paper's prompt.

        Args:
            window_tokens: longest prompt; None for the proxy's context.
            reverse: the first document of the input comes last, next to the query.
            calibrate: subtract the empty query; False is the paper's ablation.
            answer: instruct to answer (the paper's QA prompt) instead of to find (IE).

        Raises:
            BadInput: a window too short to hold anything.
        """
        form = PromptForm(reverse=reverse, calibrate=calibrate, answer=answer)
        self.ranker = InContextRanker(reader, None, form, window_tokens)

    def rank(self, question: str, passages: Sequence[Passage], units: Sequence[Unit] = ()) -> Ranks:
        """Each document's masked sum of calibrated attention; higher is better."""
        return self.ranker.rank(question, passages)


Method = ICR
