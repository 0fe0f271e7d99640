"""Induction heads: on random tokens that are repeated, attention to what followed earlier copies.

Source: RazorAttention (Tang et al. 2024, arXiv 2407.15891, §3.2), after Olsson et al. 2022:

    induction[l, h] = mean over the rows of repeats 2 to 4 of Σ a[i, j] over j ≤ i whose token
                      before them is an earlier copy of i

Departures: as of `echo`, which reads the same prompts.
"""

from __future__ import annotations

from typing import ClassVar

from tamis_lab.train.finders.echo import Echo
from tamis_lab.train.heads.finder import FinderInfo


class Induction(Echo):
    """Heads that look at what followed an earlier copy."""

    info: ClassVar[FinderInfo] = FinderInfo(
        "attention to what followed earlier copies among random repeated tokens",
        "arXiv 2407.15891",
    )
    part = 1


Finder = Induction
