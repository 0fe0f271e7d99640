"""Scores of attention heads from the signals of one case: pure functions, `[L, H]` each.

Signals have the row group `question`: every row from the question's first token to the prompt's
end, axes `[L, H, R, N]`. Spans are half-open, in tokens of the passage.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tamis.probes.errors import BadInput
from tamis.probes.probing.linear import LinearProbe
from tamis.probes.signal import Signal

TokenSpan = tuple[int, int]


def needle_mass(signal: Signal, needles: Sequence[TokenSpan]) -> Tensor:
    """Attention of the prompt's last row to the needle's tokens, summed: `[L, H]`.

    Source: EHPC (arXiv 2501.12959, §3): score(l, h) = Σ_j∈needle A[N, j].
    """
    return signal.pool(needles, "sum")[..., -1].sum(0)


def document_masses(signal: Signal, documents: Sequence[TokenSpan]) -> Tensor:
    """Attention to each document, summed over its tokens, averaged over all rows: `[D, L, H]`."""
    return signal.pool(documents, "sum").mean(-1)


def contrast_score(masses: Tensor, gold: Sequence[int], temperature: float) -> Tensor:
    """The positive's share of a softmax over it and all negatives: `[L, H]`.

    Source: CoRe heads (arXiv 2510.02219, §3). With several gold documents, each is compared with
    the negatives only, and the shares are averaged.

    Args:
        masses: `[D, L, H]`, from `document_masses`.
        gold: indices of the documents that answer the question.
        temperature: the divisor of masses; the paper uses .001 or .1, depending on the model.

    Raises:
        BadInput: no gold document, or no other one, or a temperature of 0 or below.
    """
    negatives = [d for d in range(len(masses)) if d not in set(gold)]
    check_temperature(temperature)
    if not gold or not negatives:
        raise BadInput(
            f"{len(gold)} gold documents and {len(negatives)} others; contrast needs one of each"
        )
    scaled = masses / temperature
    shares = [scaled[[d, *negatives]].softmax(0)[0] for d in gold]
    return torch.stack(shares).mean(0)


def check_temperature(temperature: float) -> None:
    """Checks a temperature.

    Raises:
        BadInput: it is not a finite number above 0.
    """
    if not 0 < temperature < math.inf:
        raise BadInput(f"temperature is {temperature:g}; contrast needs a number above 0")


def calibrated_mass(
    question_signal: Signal,
    empty_signal: Signal,
    documents: Sequence[TokenSpan],
    gold: Sequence[int],
) -> Tensor:
    """Mass on the gold documents beyond what an empty question draws: `[L, H]`.

    Source: QRHead (arXiv 2506.09944, §3), with the calibration of ICR (arXiv 2410.02642): mean over
    rows, minus the same of the question "N/A"; in each document, what is above mean − 2·deviation
    is summed.

    Args:
        question_signal, empty_signal: of the same passage, read with the question and with "N/A".
    """
    scores = question_signal.weights.mean(2) - empty_signal.weights.mean(2)  # [L, H, N]
    return torch.stack([masked_sum(scores[..., slice(*documents[d])]) for d in gold]).sum(0)


def masked_sum(tokens: Tensor) -> Tensor:
    """The sum over a document's tokens `[..., n]` without abnormally low ones: `[...]`.

    Source: ICR (arXiv 2410.02642, §3): tokens above mean − 2·deviation are summed; if all tokens
    are equal, all are.
    """
    spread = tokens.std(-1, keepdim=True, correction=0)
    summed = (tokens > tokens.mean(-1, keepdim=True) - 2 * spread) | (spread == 0)
    return tokens.masked_fill(~summed, 0.0).sum(-1)


def copy_score(
    signal: Signal, passage: Sequence[int], answer: Sequence[int], needle: TokenSpan
) -> Tensor:
    """The share of the answer's tokens that a head copies from the needle: `[L, H]`.

    Source: retrieval heads (Wu et al., arXiv 2404.15574, §2): a head copies the next token of the
    answer if its strongest key is in the needle and is the same token.

    Departures: the answer is given, not generated (a proxy of this size seldom answers in the
    needle's words), so no sample is dropped by its ROUGE; the share is of the answer's tokens, not
    of the needle's; the strongest key must exceed all attention outside the signal together, where
    the paper compares key by key: the signal contains the passage and the question, but not the
    template's opening and the answer so far.

    Args:
        signal: rows that predict the answer's tokens, in order: R = len(answer).
        passage: the N token ids that the signal covers.
        needle: the span of the needle in them.

    Raises:
        BadInput: rows or columns do not match the ids.
    """
    if signal.weights.shape[2:] != (len(answer), len(passage)) or not answer:
        raise BadInput(
            f"the signal has {tuple(signal.weights.shape[2:])} rows and keys for "
            f"{len(answer)} answer tokens and {len(passage)} ids"
        )
    ids, answer_ids = torch.tensor(passage), torch.tensor(answer)
    weight, at = signal.weights.max(-1)  # [L, H, R]
    inside = (at >= needle[0]) & (at < needle[1])
    copied = inside & (ids[at] == answer_ids) & (weight > 1 - signal.weights.sum(-1))
    return copied.float().mean(-1)


def probe_weights(probe: LinearProbe, layers: int) -> Tensor:
    """The weight of each head's attention in a linear probe: `[L, H]`, 0 for layers not read.

    A probe of question_rows has two features per head, the log of a unit's mean attention and of
    its best token's; their weights are added.

    Raises:
        BadInput: the probe has no weight per head.
    """
    card = probe.card
    cells = card.layers * card.heads
    name = "first" if "first" in probe.weights else "head"
    if name not in probe.weights or card.layers > layers:
        raise BadInput(f"the probe of {card.method} has no weights for {layers} layers of heads")
    found = probe.weights[name]
    both = found[:cells] + found[cells : 2 * cells] if name == "first" else found[:cells]
    scores = torch.zeros(layers, card.heads)
    scores[: card.layers] = both.view(card.layers, card.heads)
    return scores
