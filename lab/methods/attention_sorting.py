"""Attention Sorting: the documents that draw most attention come last, next to the question.

Source: "Attention Sorting Combats Recency Bias in Long Context Language Models" (arXiv 2310.01427,
§3). Documents and question in one prompt, one decode step; the attention that it pays to a
document, averaged over the document's tokens and over all layers and heads; documents are sorted by
it, ascending; both steps are repeated, 1 to 5 times.

Departures: the proxy sorts for the model that answers; the sorting stops early where it changes
nothing; documents beyond `window_tokens` are read in several prompts, whole documents each, and
compared by the same means; layers with a sliding window of no more than `window_tokens` are left
out (Gemma): they attend to the last documents alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from tamis.compressors.method import MethodInfo, OrderingMethod
from tamis.compressors.options import option
from tamis.compressors.reading.windows import Reader, document_tokens_left
from tamis.text.types import Passage
from tamis_lab.methods.documents import document_ids, mean_attention

WINDOW_TOKENS = 4096


class AttentionSorting(OrderingMethod):
    """Orders documents by the last row's attention, averaged over all layers and heads."""

    info: ClassVar[MethodInfo] = MethodInfo(
        "most attended last, by the last row of all layers and heads",
        "Attention Sorting, arXiv 2310.01427",
        "proxy",
        "ordering",
        research=True,
    )

    reader: Reader
    rounds: int = option(1, "How often to read and sort.", ge=1)
    window_tokens: int = option(
        WINDOW_TOKENS,
        "The most tokens of documents in one prompt; fewer where the proxy's context is shorter.",
        ge=1,
    )

    def order(
        self, question: str, passages: Sequence[Passage], scores: Sequence[float]
    ) -> tuple[int, ...]:
        """Indexes by rising attention; ties keep their order."""
        order = list(range(len(passages)))
        if len(order) < 2:
            return tuple(order)
        documents = document_ids(self.reader, passages)
        query = self.reader.layout.question_tokens(question)
        window = document_tokens_left(self.reader, query, self.window_tokens)
        for _ in range(self.rounds):
            before = order
            shown = [documents[p] for p in order]
            attention = dict(
                zip(order, mean_attention(self.reader, shown, query, window), strict=True)
            )
            order = sorted(order, key=attention.__getitem__)
            if order == before:
                break
        return tuple(order)


Method = AttentionSorting
