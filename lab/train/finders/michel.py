"""Sixteen heads: which heads the loss depends on, by its gradient, or by adding heads one by one.

Source: Michel et al. 2019 (arXiv 1905.10650, §2.3 and §4): with ξ a mask on each head at 1,

    gradient   I[l, h] = E |∂loss/∂ξ[l, h]|, divided by the layer's L2 norm
    greedy     the head that lowers the loss most is added, again and again

Departures: the loss is the listwise loss of a linear probe on raw attention (log mean and log max
of each head), and ξ multiplies a head's standardised features in the score, so that no gradient
runs through the model and no head's output is masked: what it finds is which heads a *probe* can
spare, and not, as the paper, which heads the model can; the paper prunes from all heads, `greedy`
adds to none, judged on questions that its weights were not fitted on. Greedy scores are
(k + 1 - rank) / k.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from tamis.compressors.options import option
from tamis.compressors.reading.windows import read_windows
from tamis.probes.errors import BadInput
from tamis.probes.signal import Signal, Want
from tamis_lab.datasets.records import Record, gold_labels, passages_of, request_units
from tamis_lab.methods.window_attention.contract import log_mean_max
from tamis_lab.train.fit import LabelledFeatures, fit_listwise, mean_listwise_loss
from tamis_lab.train.heads.finder import FinderInfo, HeadFinder, Progress

L2 = 0.03


class Michel(HeadFinder):
    """Heads that the probe's loss depends on."""

    info: ClassVar[FinderInfo] = FinderInfo(
        "what a probe's loss loses with each head: by gradient, or greedily",
        "after arXiv 1905.10650",
        True,
    )

    form: Literal["gradient", "greedy"] = option("gradient", "By gradient, or greedily.")
    k: int = option(8, "How many heads greedy adds.", ge=1)

    def find(self, records: Sequence[Record], report: Progress) -> Tensor:
        """One case a question by gradient, a single one greedily: `[C, L, H]`.

        Raises:
            BadInput: fewer than two records have gold and other units.
        """
        shape = (self.reader.card.layers, self.reader.card.heads)
        found = []
        for done, record in enumerate(records, 1):
            one = self._features(record)
            report(done, len(records))
            if one.gold.any() and not one.gold.all():
                found.append(one)
        if len(found) < 2:
            raise BadInput(f"{len(found)} records have gold and other units; michel needs 2")
        heads = shape[0] * shape[1]
        if self.form == "greedy":
            order = greedy_heads(found, heads, self.k)
            scores = torch.zeros(heads)
            for rank, head in enumerate(order):
                scores[head] = (len(order) - rank) / len(order)
            return scores.view(1, *shape)
        return gradient_scores(found, heads).view(-1, *shape)

    def _features(self, record: Record) -> LabelledFeatures:
        passages, units = passages_of(record), request_units(record)
        want = Want(tuple(range(self.reader.card.layers)))

        def pool(signal: Signal, spans: Sequence[tuple[int, int]]) -> Tensor:
            return log_mean_max(signal.weights[:, :, 0], spans)

        reading = read_windows(self.reader, record["question"], passages, units, want, pool)
        return LabelledFeatures(reading.features, torch.tensor(gold_labels(record, units)))


def gradient_scores(questions: Sequence[LabelledFeatures], heads: int) -> Tensor:
    """|∂loss/∂ξ| of each head in each question: `[Q, L·H]`, whole profile of unit length.

    Args:
        questions: features `[U, 2·heads]`: log means, then log maxima.
    """
    weights = fit_listwise(questions, L2)[0]
    mean = torch.cat([q.features for q in questions]).mean(0)
    each = []
    for q in questions:
        parts = ((q.features - mean) * weights).view(-1, 2, heads).sum(1)  # [U, heads]
        share = torch.softmax(parts.sum(1), 0)
        gold = q.gold.float() / q.gold.sum()
        each.append(((share - gold) @ parts).abs())
    found = torch.stack(each)
    length: Tensor = found.mean(0).norm()
    return found / length.clamp_min(1e-12)


def greedy_heads(questions: Sequence[LabelledFeatures], heads: int, k: int) -> list[int]:
    """At most k heads, each the one that lowers the loss on held-out questions most.

    Weights are fitted on every other question and judged on the rest; it stops where no head helps.
    """
    fits, held = questions[::2], questions[1::2]
    chosen: list[int] = []
    best = math.inf
    while len(chosen) < min(k, heads):
        trials = {
            head: _trial(fits, held, [*chosen, head], heads)
            for head in range(heads)
            if head not in chosen
        }
        head = min(trials, key=lambda head: trials[head])
        if trials[head] >= best:
            break
        best = trials[head]
        chosen.append(head)
    return chosen


def _trial(
    fits: Sequence[LabelledFeatures],
    held: Sequence[LabelledFeatures],
    chosen: Sequence[int],
    heads: int,
) -> float:
    columns = [*chosen, *(head + heads for head in chosen)]
    some_fits, some_held = (
        [LabelledFeatures(q.features[:, columns], q.gold) for q in questions]
        for questions in (fits, held)
    )
    return mean_listwise_loss(fit_listwise(some_fits, L2, steps=20)[0], some_held)


Finder = Michel
