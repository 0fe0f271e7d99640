"""Row coverage: the question's words kept apart, so that one strong word cannot win alone.

Source: own, after the maximal inner product of late interaction (ColBERT, arXiv 2004.12832, §3.3),
with attention in its place. With r the rows of the question's words, and r' the row of "N/A" as far
from the prompt's end:

    m[r, u] = log mean over heads and tokens of u of a[r, ·] - the same of r'
    features of u:           mean, least and most of m[·, u], and the share of rows whose best is u
    features of the window:  least, mean and spread over r of max_u m[r, u]

Departures: none to depart from. Heads are the best 16 of the contrast profile that ships for the
proxy, where one does, else all; where a question has no word with a letter or digit, all its rows
count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from tamis.compressors.options import option
from tamis.probes.probing.heads import Head, HeadProfile
from tamis.probes.signal import pool_tokens
from tamis_lab.methods.window_attention import contract
from tamis_lab.methods.window_attention.contract import (
    TINY,
    AskedRows,
    EntryInfo,
    TokenSpan,
    WindowAttention,
)

HEADS = 16


class RowCoverage(contract.Reading):
    """Which of the question's words each unit covers."""

    info: ClassVar[EntryInfo] = EntryInfo(
        "the question's words apart: which are covered, and by which unit", "own"
    )

    heads: int = option(HEADS, "How many heads of the contrast profile that ships.")

    def setup(self) -> None:
        """Finds the heads; where no profile ships, all are averaged."""
        name = self.reader.card.name
        shipped = HeadProfile.is_shipped("contrast", name)
        profile = HeadProfile.load_shipped("contrast", name) if shipped else None
        self._heads = profile.best(self.heads) if profile else None

    def pool(self, window: WindowAttention, spans: Sequence[TokenSpan]) -> Tensor:
        """Four features of each unit and three of its window: `[U, 7]`."""
        read = [h for h in self._heads or () if h[0] in window.layers] or None
        rows = row_scores(window, spans, read)
        return coverage_features(rows)

    def score(
        self, window: WindowAttention, spans: Sequence[TokenSpan], heads: Sequence[Head] | None
    ) -> Tensor:
        """The mean over the question's words of how well each is covered: `[U]`."""
        return row_scores(window, spans, heads).mean(0)


def row_scores(
    window: WindowAttention, spans: Sequence[TokenSpan], heads: Sequence[Head] | None
) -> Tensor:
    """m[r, u] for the rows of the question's words: `[R, U]`."""
    question, empty = window.branches
    logs = [_unit_logs(window, asked, spans, heads) for asked in (question, empty)]  # [n, U]
    rows = _word_rows(question)
    from_end = len(logs[0]) - rows
    nearest = (len(logs[1]) - from_end).clamp_min(empty.first_row)
    return logs[0][rows] - logs[1][nearest]


def _unit_logs(
    window: WindowAttention,
    asked: AskedRows,
    spans: Sequence[TokenSpan],
    heads: Sequence[Head] | None,
) -> Tensor:
    weights = window.head_mean(asked.weights[..., window.shape.passage], heads)  # [n, N]
    return pool_tokens(weights, spans, "mean").T.clamp_min(TINY).log()


def _word_rows(asked: AskedRows) -> Tensor:
    rows = asked.words.nonzero()[:, 0]
    return rows if len(rows) else torch.arange(asked.first_row, len(asked.words))


def coverage_features(rows: Tensor) -> Tensor:
    """From m `[R, U]`: mean, least, most and share of rows won, then the window's: `[U, 7]`."""
    units = rows.shape[1]
    best, winner = rows.max(1)
    won = torch.bincount(winner, minlength=units) / len(rows)
    own = torch.stack([rows.mean(0), rows.amin(0), rows.amax(0), won], 1)
    spread = best.std(correction=0)
    return torch.cat([own, torch.stack([best.min(), best.mean(), spread]).expand(units, 3)], 1)


Reading = RowCoverage
