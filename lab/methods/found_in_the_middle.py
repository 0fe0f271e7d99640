"""Found in the Middle: a document's attention minus that of a dummy document in its place.

Source: "Found in the Middle: Calibrating Positional Attention Bias Improves Long Context
Utilization" (arXiv 2406.16008, §3). Attention to a document in place k is taken as relevance plus
a bias of the place. A dummy document in the same place has the bias alone:

    relevance(document) = attention(document in k) - attention(dummy in k)

Attention is averaged over the document's tokens and over all layers and heads, as the prompt's last
token pays it. The most relevant document comes last, next to the question.

Departures: the paper puts the dummy into one place at a time, among the other documents, which is K
readings per request (`each=True`); by default all places hold a dummy at once and the question is
"N/A", so the biases depend only on how many places there are and how long they are, and are cached:
one reading per request once lists of that shape were read. Dummies are a neutral text, repeated and
cut to the documents' mean length, rounded up to 32 tokens where that fits into the window; with
`each` to the very length. Documents of more than `window_tokens` are read in several prompts, and
each prompt is calibrated by itself. The proxy calibrates for the model that answers, whose own
attention the paper rescales. Layers with a sliding window of no more than `window_tokens` are left
out (Gemma), as in `attention_sorting`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import cycle, islice
from typing import ClassVar

from tamis.compressors.method import MethodInfo, OrderingMethod
from tamis.compressors.options import option
from tamis.compressors.reading.windows import EMPTY_QUERY, Reader, document_tokens_left
from tamis.probes.errors import BadInput
from tamis.probes.prompt import QuestionTokens, token_batches
from tamis.text.types import Passage
from tamis_lab.methods.attention_sorting import WINDOW_TOKENS
from tamis_lab.methods.documents import document_ids, mean_attention

DUMMY = "This is a text that has nothing to do with it. "
_LENGTH_STEP_TOKENS = 32
_MAX_CACHED_SHAPES = 64
"""Shapes of lists whose biases are cached: a few numbers each."""


class FoundInTheMiddle(OrderingMethod):
    """Orders documents by the last row's attention, calibrated by dummy documents."""

    info: ClassVar[MethodInfo] = MethodInfo(
        "most attended last, less what a dummy document draws in the same place",
        "Found in the Middle, arXiv 2406.16008",
        "proxy",
        "ordering",
        research=True,
    )

    reader: Reader
    each: bool = option(
        False,
        "Put the dummy into one place after the other, among the other documents: one more reading "
        "for each document.",
        paper="true",
    )
    window_tokens: int = option(
        WINDOW_TOKENS,
        "The most tokens of documents in one prompt; fewer where the proxy's context is shorter.",
        ge=1,
    )
    dummy: str = option(DUMMY, "A neutral text; repeated and cut to length.")

    def setup(self) -> None:
        """Tokenises the dummy.

        Raises:
            BadInput: it is empty.
        """
        self._dummy_ids = tuple(self.reader.layout.tokenizer.encode(self.dummy).ids)
        if not self._dummy_ids:
            raise BadInput("the dummy has 0 tokens; give 1 or more")
        # a cache for this reader alone: one on the class would keep every model alive
        self._cached_biases = lru_cache(maxsize=_MAX_CACHED_SHAPES)(self._dummy_biases)

    def order(
        self, question: str, passages: Sequence[Passage], scores: Sequence[float]
    ) -> tuple[int, ...]:
        """Indexes by rising relevance; ties keep their order."""
        if len(passages) < 2:
            return tuple(range(len(passages)))
        found = self.relevance(question, passages)
        return tuple(sorted(range(len(passages)), key=found.__getitem__))

    def relevance(self, question: str, passages: Sequence[Passage]) -> list[float]:
        """Each passage's attention minus its place's bias, as the mean attention per token."""
        found: list[float] = []
        query = self.reader.layout.question_tokens(question)
        window = document_tokens_left(self.reader, query, self.window_tokens)
        for group in token_batches(document_ids(self.reader, passages), window):
            attention = self._mean_attention(group, query)
            bias = (
                self._biases_one_by_one(group, query) if self.each else self._biases(group, window)
            )
            found += [own - place for own, place in zip(attention, bias, strict=True)]
        return found

    def _biases(self, group: Sequence[tuple[int, ...]], window: int) -> tuple[float, ...]:
        """The biases of the places of a list of so many documents of about this length."""
        mean = max(1, round(_count_tokens(group) / len(group)))
        # rounded up, as far as the window has room, so that lists of about this length share biases
        room = max(window, _count_tokens(group)) // len(group)
        rounded = -(-mean // _LENGTH_STEP_TOKENS) * _LENGTH_STEP_TOKENS
        return self._cached_biases(len(group), max(1, min(rounded, room)))

    def _dummy_biases(self, places: int, tokens: int) -> tuple[float, ...]:
        dummies = [self._dummy_tokens(tokens)] * places
        query = self.reader.layout.question_tokens(EMPTY_QUERY)
        return tuple(self._mean_attention(dummies, query))

    def _biases_one_by_one(
        self, group: Sequence[tuple[int, ...]], query: QuestionTokens
    ) -> Iterator[float]:
        for place, document in enumerate(group):
            shown = [*group[:place], self._dummy_tokens(len(document)), *group[place + 1 :]]
            yield self._mean_attention(shown, query)[place]

    def _mean_attention(
        self, group: Sequence[tuple[int, ...]], query: QuestionTokens
    ) -> list[float]:
        """The attention to each document, all in one prompt, by the same layers for any length."""
        return list(
            mean_attention(self.reader, group, query, _count_tokens(group), self.window_tokens)
        )

    def _dummy_tokens(self, tokens: int) -> tuple[int, ...]:
        return tuple(islice(cycle(self._dummy_ids), tokens))


def _count_tokens(group: Sequence[tuple[int, ...]]) -> int:
    return sum(map(len, group))


Method = FoundInTheMiddle
