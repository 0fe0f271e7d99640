"""Raw attention: how the last row of the last layer looks at each sentence. No training, no heads.

Source: QUITO (arXiv 2408.00274, §3), sentence form: the last layer's attention of the last token,
averaged over heads, smoothed by a Gaussian of sigma 1 along the text; a sentence counts as much as
its best word.

Departures: words are the proxy's tokens (the paper merges sub-words by their maximum before it
smooths); no second softmax over the attention values (of numbers so small it is a straight line, so
the order of sentences stays); tamis's template in place of "document, blank, question" and a fixed
offset; documents are joined by a blank line, under their titles, and read in windows of whole
sentences, the paper's in one prompt; attention is not rescaled, so windows compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from tamis.compressors.method import Info, best_of_passage
from tamis.compressors.methods.sentinel import joined
from tamis.compressors.reading.smoothing import gaussian
from tamis.compressors.reading.windows import Look, Reader, read_alone
from tamis.compressors.types import Scores
from tamis.probes.errors import BadInput
from tamis.probes.signal import Signal, Want, pool_tokens
from tamis.probes.text import Passage, Unit

WINDOW_TOKENS = 1024
SIGMA = 1.0


def best_words(signal: Signal, spans: Sequence[tuple[int, int]], sigma: float) -> Tensor:
    """The best smoothed token of each unit, all heads of the last row averaged: `[U, 1]`."""
    tokens = signal.weights[-1, :, -1].mean(0)  # [N]
    return pool_tokens(gaussian(tokens, sigma), spans, "max")[:, None]


class RawAttention:
    """The reading that every other one improves on."""

    info: ClassVar[Info] = Info(
        "the last row of the last layer, mean of heads, no training",
        "QUITO, arXiv 2408.00274",
        "proxy",
        reads_words=True,
    )

    def __init__(
        self, reader: Reader, sigma: float = SIGMA, window_tokens: int = WINDOW_TOKENS
    ) -> None:
        """A method over one proxy, loaded whole.

        Args:
            sigma: of the Gaussian, in tokens; 0 for none.
            window_tokens: longest window of the joined documents.

        Raises:
            BadInput: an option out of range.
        """
        if not sigma >= 0 or window_tokens < 1:
            raise BadInput(
                f"sigma is {sigma} and window_tokens {window_tokens}; give 0 or more, and 1 or more"
            )
        self.reader, self.sigma, self.window_tokens = reader, sigma, window_tokens
        self.reading = f"1 {sigma=}"

    @classmethod
    def depth(cls, model: str) -> int | None:
        """The last layer is read, so every layer is loaded."""
        return None

    def look(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Look:
        """Reads the joined documents, window by window."""
        whole, moved = joined(passages, units)
        want = Want((self.reader.card.layers - 1,), ("last",))

        def pool(signal: Signal, spans: Sequence[tuple[int, int]]) -> Tensor:
            return best_words(signal, spans, self.sigma)

        return read_alone(
            self.reader, question, [whole], moved, want, pool, self.window_tokens, lead=True
        )

    def judge(
        self, look: Look, question: str, passages: Sequence[Passage], units: Sequence[Unit]
    ) -> Scores:
        """What was seen, as it is; no probabilities."""
        each = tuple(look.features.flatten().tolist())
        ranks = best_of_passage(each, units, len(passages))
        return Scores(each, ranks, False, *look.cost)

    def scores(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Scores:
        """One value a sentence; a passage ranks by its best sentence."""
        return self.judge(self.look(question, passages, units), question, passages, units)


Method = RawAttention
