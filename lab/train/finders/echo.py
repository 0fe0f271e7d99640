"""Echo heads: on random tokens that are repeated, attention to earlier copies of the token itself.

Source: RazorAttention (Tang et al. 2024, arXiv 2407.15891, §3.2): K random tokens four times,

    echo[l, h] = mean over the rows of repeats 2 to 4 of Σ a[i, j] over j < i that are copies of i

No labels, no language, no text. The paper keeps the best of each key group, and calls the top 1 %
by echo and 14 % by induction retrieval heads.

Departures: K = 256 (published 2,500), the mean of 8 draws; a score a query head; tokens are drawn
among those with a letter or digit. In layers with a sliding window shorter than K nothing echoes:
choose `tokens` below half of it there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from tamis.compressors.options import option
from tamis_lab.datasets.records import Record
from tamis_lab.train.heads.finder import FinderInfo, HeadFinder, Progress
from tamis_lab.train.heads.repeats import DRAWS, TOKENS, repeat_scores


class Echo(HeadFinder):
    """Heads that look at earlier copies of a token."""

    info: ClassVar[FinderInfo] = FinderInfo(
        "attention to earlier copies among random repeated tokens", "arXiv 2407.15891"
    )
    part = 0

    tokens: int = option(TOKENS, "Tokens of one repeat.")
    draws: int = option(DRAWS, "Prompts of four repeats.")

    def find(self, records: Sequence[Record], report: Progress) -> Tensor:
        """One case a draw: `[C, L, H]`."""
        found = []
        for pair in repeat_scores(self.reader, self.tokens, self.draws, self.seed):
            found.append(pair[self.part])
            report(len(found), self.draws)
        return torch.stack(found)


Finder = Echo
