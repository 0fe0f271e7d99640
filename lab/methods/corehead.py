"""CoRe heads: in-context reranking by the heads that tell gold documents from hard negatives.

Source: "Contrastive Retrieval Heads Improve Attention-Based Re-Ranking", arXiv 2510.02219, §3. Only
the 8 heads with the highest contrastive score are summed: the gold document's share of a softmax
over it and its negatives, of attention mass over a temperature (`tamis lab heads find --by
contrast`). Labels are `[document 1]`, ... and are not part of their document; the rows are those of
instruction and query, without the suffix, so the prompt ends with the query. Calibration and mask
are ICR's. The layers above the deepest head are not loaded, as the paper prunes them.

Departures: those of `in_context.py` and of `icr`; heads are found on tamis's own training
sets, in the proxy's own template, by the rows from the question to the prompt's end (the paper's
are those of instruction and query), without labels and with as many negatives as 1,000 tokens hold
(the paper takes 49); the released code's rows reach one token into the suffix, these do not. A
profile scores every layer, those with a sliding window too, on prompts of about 1,000 tokens: of
such a model (Gemma) a head may be chosen that attends to the last documents alone.
"""

from __future__ import annotations

from typing import ClassVar

from tamis.compressors.method import MethodInfo
from tamis.compressors.options import option
from tamis.probes.probing.heads import HeadScoring
from tamis_lab.methods.in_context import HeadRankingMethod, PromptForm

HEADS = 8
LABEL = "[document {}]"


class CoReHead(HeadRankingMethod):
    """Ranks by eight heads that prefer gold documents to hard negatives, calibrated."""

    info: ClassVar[MethodInfo] = MethodInfo(
        "as icr, with the 8 heads that tell gold from hard negatives",
        "CoRe heads, arXiv 2510.02219",
        "proxy",
        "reranking",
        research=True,
    )
    head_scoring: ClassVar[HeadScoring] = "contrast"
    heads: int = option(HEADS, "How many of the best heads.")

    def prompt_form(self) -> PromptForm:
        """The paper's prompt."""
        return PromptForm(LABEL, False, False)


Method = CoReHead
