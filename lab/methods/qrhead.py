"""QRHead: in-context reranking by the few heads that attend from a query to its documents.

Source: "Query-Focused Retrieval Heads Improve Long-Context Reasoning and Re-ranking", arXiv
2506.09944, §3. Prompt, rows, calibration and mask are ICR's; only the 16 heads with the highest
QRScore are summed: the calibrated, masked attention mass on the gold documents of labelled
questions (`tamis lab heads find --by qr`).

Departures: those of `in_context.py` and of `icr`; heads are found on tamis's own training
sets, in the proxy's own template, not in this prompt's words, by the rows from the question to the
prompt's end, where the paper's begin with the instruction. A profile scores every layer, those with
a sliding window too, on prompts of about 1,000 tokens: of such a model (Gemma) a head may be chosen
that attends to the last documents alone.
"""

from __future__ import annotations

from typing import ClassVar

from tamis.compressors.method import MethodInfo
from tamis.compressors.options import option
from tamis.probes.probing.heads import HeadScoring
from tamis_lab.methods.in_context import HeadRankingMethod, PromptForm

HEADS = 16


class QRHead(HeadRankingMethod):
    """Ranks by sixteen heads that find the gold documents, calibrated."""

    info: ClassVar[MethodInfo] = MethodInfo(
        "as icr, with the 16 heads that draw most to gold documents",
        "QRHead, arXiv 2506.09944",
        "proxy",
        "reranking",
        research=True,
    )
    head_scoring: ClassVar[HeadScoring] = "qr"
    heads: int = option(HEADS, "How many of the best heads.")
    answer: bool = option(False, "Instruct to answer (ICR's QA prompt) instead of to find (IE).")

    def prompt_form(self) -> PromptForm:
        """ICR's prompt."""
        return PromptForm(answer=self.answer)


Method = QRHead
