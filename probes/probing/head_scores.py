"""How much a head looks back, from one reading: pure functions of signals, `[L, H]` each.

Signals have the rows group `question`: every row from the question's first token to the prompt's
end, axes `[L, H, R, N]`. A span is half-open, in tokens of the passage.
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
    """Attention to each document, summed over its tokens, the mean of all rows: `[D, L, H]`."""
    return signal.pool(documents, "sum").mean(-1)


def contrast_score(masses: Tensor, gold: Sequence[int], temperature: float) -> Tensor:
    """The positive's share of a softmax over it and all negatives: `[L, H]`.

    Source: CoRe heads (arXiv 2510.02219, §3). With several gold documents each stands against the
    negatives alone, and the shares are averaged.

    Args:
        masses: `[D, L, H]`, as of `document_masses`.
        gold: which of the D documents answer.
        temperature: what masses are divided by; the paper uses .001 or .1, by model.

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
    """BadInput: masses cannot be divided by it."""
    if not 0 < temperature < math.inf:
        raise BadInput(f"temperature is {temperature:g}; contrast needs a number above 0")


def calibrated_mass(
    question_signal: Signal, empty_signal: Signal, documents: Sequence[TokenSpan], gold: Sequence[int]
) -> Tensor:
    """Mass on the gold documents beyond what an empty question draws: `[L, H]`.

    Source: QRHead (arXiv 2506.09944, §3), with the calibration of ICR (arXiv 2410.02642): mean over
    rows, minus the same of the question "N/A"; in each document, what is above mean − 2·deviation
    is summed.

    Args:
        asked, empty: the same passage read with the question and with "N/A".
    """
    scores = question_signal.weights.mean(2) - empty_signal.weights.mean(2)  # [L, H, N]
    return torch.stack([masked_sum(scores[..., slice(*documents[d])]) for d in gold]).sum(0)


def masked_sum(tokens: Tensor) -> Tensor:
    """The sum of a document's tokens `[..., n]` without those that are abnormally low: `[...]`.

    Source: ICR (arXiv 2410.02642, §3): kept are those above mean − 2·deviation; where all are the
    same, all are.
    """
    spread = tokens.std(-1, keepdim=True, correction=0)
    kept = (tokens > tokens.mean(-1, keepdim=True) - 2 * spread) | (spread == 0)
    return tokens.masked_fill(~kept, 0.0).sum(-1)


def copy_score(
    signal: Signal, passage: Sequence[int], answer: Sequence[int], needle: TokenSpan
) -> Tensor:
    """The share of the answer's tokens that a head copies from the needle: `[L, H]`.

    Source: retrieval heads (Wu et al., arXiv 2404.15574, §2): a head copies the token that is
    written next if its strongest key lies in the needle and is that token.

    Departures: the answer is given, not generated (a proxy of this size seldom says it in the
    needle's words), so no sample is dropped by its ROUGE; the share is of the answer's tokens, not
    of the needle's; the strongest key must outweigh all that lies outside the signal together,
    where the paper compares key by key: the signal holds the passage and the question, and leaves
    out the template's opening and the answer so far.

    Args:
        signal: rows that predict the answer's tokens, in order: R = len(answer).
        passage: the token ids that the signal covers, N of them.
        needle: where the answer stands.

    Raises:
        BadInput: rows or columns do not match the ids.
    """
    if signal.weights.shape[2:] != (len(answer), len(passage)) or not answer:
        raise BadInput(
            f"the signal has {tuple(signal.weights.shape[2:])} rows and keys for "
            f"{len(answer)} answer tokens and {len(passage)} ids"
        )
    ids, written = torch.tensor(passage), torch.tensor(answer)
    weight, at = signal.weights.max(-1)  # [L, H, R]
    inside = (at >= needle[0]) & (at < needle[1])
    copied = inside & (ids[at] == written) & (weight > 1 - signal.weights.sum(-1))
    return copied.float().mean(-1)


def probe_weights(probe: LinearProbe, layers: int) -> Tensor:
    """What a linear probe weighs each head's attention with: `[L, H]`, 0 above what it reads.

    A probe of question_rows has two features a head, the log of a unit's mean attention and of its
    best token's; their weights are added.

    Raises:
        BadInput: a probe without weights a head.
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
