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

from typing import ClassVar

from tamis.compressors.method import MethodInfo
from tamis.compressors.options import option
from tamis_lab.methods.in_context import InContextMethod, PromptForm


class ICR(InContextMethod):
    """Ranks by every head of every layer, calibrated."""

    info: ClassVar[MethodInfo] = MethodInfo(
        "all documents in one prompt, every head, minus what the query N/A draws",
        "ICR, arXiv 2410.02642",
        "proxy",
        "reranking",
        research=True,
    )
    answer: bool = option(
        False, "Instruct to answer (the paper's QA prompt) instead of to find (IE)."
    )

    def prompt_form(self) -> PromptForm:
        """The paper's prompt."""
        return PromptForm(answer=self.answer)


Method = ICR
