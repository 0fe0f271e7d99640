"""Found in the Middle: what a document draws, less what anything would draw in its place.

Source: "Found in the Middle: Calibrating Positional Attention Bias Improves Long Context
Utilization" (arXiv 2406.16008, §3). Attention to a document in place k is taken as relevance plus
a bias of the place. A dummy document in the same place has the bias alone:

    relevance(document) = attention(document in k) - attention(dummy in k)

Attention is averaged over the document's tokens and over all layers and heads, as the prompt's last
token pays it. The most relevant document comes last, next to the question.

Departures: the paper puts the dummy into one place at a time, among the other documents, which is K
readings a request (`each=True`); by default all places hold a dummy at once and are asked for
"N/A", so the biases depend only on how many places there are and how long they are, and are kept:
one reading a request once a shape was seen. Dummies are a neutral text, repeated and cut to the
documents' mean length, rounded up to 32 tokens where that fits into the window; with `each` to the
very length. Documents of more than `window_tokens` are read in several prompts, and each prompt is
calibrated by itself. The proxy calibrates for the model that answers, whose own attention the paper
rescales. Layers with a sliding window of no more than `window_tokens` are left out (Gemma), as in
`attention_sorting`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import cycle, islice
from typing import ClassVar

from tamis.compressors.method import Info, OrderingMethod
from tamis.compressors.methods.attention_sorting import WINDOW_TOKENS, document_ids, mean_attention
from tamis.compressors.reading.long_range import document_tokens_left
from tamis.compressors.reading.windows import Reader
from tamis.probes.errors import BadInput
from tamis.probes.prompt import Ask, packed
from tamis.probes.text import Passage

DUMMY = "This is a text that has nothing to do with it. "
EMPTY_QUERY = "N/A"
_STEP = 32
_SHAPES = 64
"""So many shapes of lists are kept: their biases are a few numbers each."""


class FoundInTheMiddle(OrderingMethod):
    """Attention of the last row, calibrated by dummy documents."""

    info: ClassVar[Info] = Info(
        "most attended last, less what a dummy document draws in the same place",
        "Found in the Middle, arXiv 2406.16008",
        "proxy",
        "ordering",
    )

    def __init__(
        self,
        reader: Reader,
        each: bool = False,
        window_tokens: int = WINDOW_TOKENS,
        dummy: str = DUMMY,
    ) -> None:
        """An order over one proxy.

        Args:
            each: put the dummy into one place after the other, among the other documents, as
                published: a reading a document.
            window_tokens: the most that one prompt holds of the documents; less where the proxy's
                context is shorter.
            dummy: what anything is; repeated and cut to length.

        Raises:
            BadInput: a window below 1, or an empty dummy.
        """
        tokens = tuple(reader.layout.tokens.encode(dummy).ids)
        if window_tokens < 1 or not tokens:
            raise BadInput(
                f"window_tokens is {window_tokens} and the dummy has {len(tokens)} tokens; "
                "give 1 or more of each"
            )
        self.reader, self.each, self.window_tokens = reader, each, window_tokens
        self._dummy = tokens
        # of this reader alone: a cache on the class would keep every model alive
        self._bias = lru_cache(maxsize=_SHAPES)(self._all_dummies)

    def order(
        self, question: str, passages: Sequence[Passage], scores: Sequence[float]
    ) -> tuple[int, ...]:
        """Indexes by rising relevance; ties keep the order they had."""
        if len(passages) < 2:
            return tuple(range(len(passages)))
        found = self.relevance(question, passages)
        return tuple(sorted(range(len(passages)), key=found.__getitem__))

    def relevance(self, question: str, passages: Sequence[Passage]) -> list[float]:
        """What each passage draws beyond what its place draws, in mean attention a token."""
        found: list[float] = []
        ask = self.reader.layout.ask(question)
        window = document_tokens_left(self.reader, ask, self.window_tokens)
        for group in packed(document_ids(self.reader, passages), window):
            drawn = self._drawn(group, ask)
            bias = self._one_dummy_each(group, ask) if self.each else self._shape(group, window)
            found += [own - place for own, place in zip(drawn, bias, strict=True)]
        return found

    def _shape(self, group: Sequence[tuple[int, ...]], window: int) -> tuple[float, ...]:
        """The biases of a list of so many documents, of about this length."""
        mean = max(1, round(_whole(group) / len(group)))
        # rounded up, so that lists of about this length share it, as far as the window has room
        room = max(window, _whole(group)) // len(group)
        return self._bias(len(group), max(1, min(-(-mean // _STEP) * _STEP, room)))

    def _all_dummies(self, places: int, tokens: int) -> tuple[float, ...]:
        dummies = [self._cut(tokens)] * places
        ask = self.reader.layout.ask(EMPTY_QUERY)
        return tuple(self._drawn(dummies, ask))

    def _one_dummy_each(self, group: Sequence[tuple[int, ...]], ask: Ask) -> Iterator[float]:
        for place, document in enumerate(group):
            shown = [*group[:place], self._cut(len(document)), *group[place + 1 :]]
            yield self._drawn(shown, ask)[place]

    def _drawn(self, group: Sequence[tuple[int, ...]], ask: Ask) -> list[float]:
        """What each of these draws, all in one prompt, by the same layers however long they are."""
        return list(mean_attention(self.reader, group, ask, _whole(group), self.window_tokens))

    def _cut(self, tokens: int) -> tuple[int, ...]:
        return tuple(islice(cycle(self._dummy), tokens))


def _whole(group: Sequence[tuple[int, ...]]) -> int:
    return sum(map(len, group))


Method = FoundInTheMiddle
