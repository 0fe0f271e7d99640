"""Raw attention: the last row of the last layer, sentence by sentence; no training, no head choice.

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

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from tamis.compressors.method import MethodInfo, TwoStepMethod
from tamis.compressors.options import option
from tamis.compressors.reading.joining import join_passages
from tamis.compressors.reading.windows import Reading, read_windows
from tamis.compressors.types import Scores
from tamis.probes.errors import BadInput
from tamis.probes.signal import Signal, Want, pool_tokens
from tamis.text.types import Passage, Unit

WINDOW_TOKENS = 1024
SIGMA = 1.0


def gaussian_filter(scores: Tensor, sigma: float, reach: float = 4.0) -> Tensor:
    """Scores under a Gaussian filter, its tails cut at `reach` sigma, edges mirrored: `[..., N]`.

    The same as `scipy.ndimage.gaussian_filter1d`; a sigma of 0 changes nothing.

    Raises:
        BadInput: a sigma below 0.
    """
    if not sigma >= 0 or math.isinf(sigma):
        raise BadInput(f"sigma is {sigma}; give 0 or more tokens")
    radius, N = int(reach * sigma + 0.5), scores.shape[-1]
    if not radius or not N:
        return scores
    offset = torch.arange(-radius, radius + 1)
    kernel = torch.exp(-0.5 * (offset / sigma) ** 2).to(scores)
    at = (torch.arange(N)[:, None] + offset) % (2 * N)  # mirrored with the edge: d c b a | a b c d
    at = torch.where(at < N, at, 2 * N - 1 - at).to(scores.device)
    return scores[..., at] @ (kernel / kernel.sum())


def best_token_scores(signal: Signal, spans: Sequence[tuple[int, int]], sigma: float) -> Tensor:
    """The best smoothed token of each unit, all heads of the last row averaged: `[U, 1]`."""
    tokens = signal.weights[-1, :, -1].mean(0)  # [N]
    return pool_tokens(gaussian_filter(tokens, sigma), spans, "max")[:, None]


class RawAttention(TwoStepMethod):
    """Scores units by the last layer's last row; the baseline of the other readings."""

    info: ClassVar[MethodInfo] = MethodInfo(
        "the last row of the last layer, mean of heads, no training",
        "QUITO, arXiv 2408.00274",
        "proxy",
        reads_words=True,
        research=True,
    )

    sigma: float = option(SIGMA, "Of the Gaussian, in tokens; 0 for none.", ge=0)
    window_tokens: int = option(
        WINDOW_TOKENS, "Tokens of the longest window of the joined documents.", ge=1
    )

    @property
    def reading_key(self) -> str:
        """The smoothing and the windows."""
        return f"1 {self.sigma} {self.window_tokens}"

    def read(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Reading:
        """Reads the joined documents, window by window."""
        whole, moved = join_passages(passages, units)
        want = Want((self.reader.card.layers - 1,), ("last",))

        def pool(signal: Signal, spans: Sequence[tuple[int, int]]) -> Tensor:
            return best_token_scores(signal, spans, self.sigma)

        return read_windows(
            self.reader, question, [whole], moved, want, pool, self.window_tokens, include_gaps=True
        )

    def score_reading(
        self, reading: Reading, question: str, passages: Sequence[Passage], units: Sequence[Unit]
    ) -> Scores:
        """The features as they are; not probabilities."""
        return reading.scores(reading.features.flatten(), units, len(passages))


Method = RawAttention
