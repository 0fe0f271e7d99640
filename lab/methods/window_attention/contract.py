"""What a reading is given of one window, and what it returns.

    window ─ one pass ─► BranchRows of the question and of "N/A", sums of all rows
           ─ Reading.pool ──► features of each unit, for a probe
           ─ Reading.score ─► a score of each unit, without any fit

A file of `readings/` subclasses `Reading`. Most need only `token_weights`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from tamis.compressors.options import Configured, option
from tamis.probes.folder_registry import EntryInfo as EntryInfo
from tamis.probes.probing.heads import Head
from tamis.probes.signal import pool_tokens
from tamis_lab.methods.window_attention.visitor import PassEdit, RowVisitor

TokenSpan = tuple[int, int]
TINY = 1e-9
"""The least weight of which a logarithm is taken."""


@dataclass(frozen=True, slots=True)
class WindowShape:
    """The tokens of a window: `opening | title | passage` in the trunk, then branches.

    Attributes:
        ids: of the trunk's tokens. opening, title: how many of them are of the template's opening,
            and of the title line.
        branches: tokens and first row of each branch, in it.
        spans: of the units, half-open, in the passage's own tokens.
    """

    ids: tuple[int, ...]
    opening: int
    title: int
    branches: tuple[tuple[int, int], ...]
    spans: tuple[TokenSpan, ...]

    @property
    def trunk(self) -> int:
        """The number of tokens of opening, title and passage."""
        return len(self.ids)

    @property
    def passage(self) -> slice:
        """The passage's own tokens in the trunk."""
        return slice(self.opening + self.title, self.trunk)


@dataclass(frozen=True, slots=True)
class AskedRows:
    """The rows of one question after the trunk.

    Attributes:
        weights: `[L, H, n, P + n]` fp32, softmax over trunk and branch, template words included.
        first_row: the question's first own row.
        words: which rows are of the question's own tokens with a letter or digit: `[n]` bool.
    """

    weights: Tensor
    first_row: int
    words: Tensor

    @property
    def mean(self) -> Tensor:
        """The mean over rows from the question's first token to the prompt's end: `[L, H, P+n]`."""
        return self.weights[:, :, self.first_row :].mean(2)


@dataclass(frozen=True, slots=True)
class WindowAttention:
    """The attention of one window.

    Attributes:
        layers: the L model layers that were read.
        branches: the rows of the question, and those of the question "N/A".
        sums: the visitors that the reading asked for, by their names.
        native: the attention of the unedited pass, for a reading that edits it.
    """

    shape: WindowShape
    layers: tuple[int, ...]
    branches: tuple[AskedRows, ...]
    sums: Mapping[str, Any]
    native: WindowAttention | None = None

    def passage_mean(self, branch: int) -> Tensor:
        """The mean of a branch's rows over the passage's tokens: `[L, H, N]`."""
        return self.branches[branch].mean[..., self.shape.passage]

    def head_mean(self, weights: Tensor, heads: Sequence[Head] | None) -> Tensor:
        """The mean over some heads of `[L, H, ...]`, or over all: `[...]`."""
        if heads is None:
            return weights.mean((0, 1))
        chosen = [weights[self.layers.index(layer), head] for layer, head in heads]
        return torch.stack(chosen).mean(0)


VisitorFactories = Mapping[str, Callable[[], RowVisitor]]
"""Visitors by a name: readings that ask for the same name share one."""


class Reading(Configured):
    """A way to read a window: override `token_weights`, or `pool` and `score`.

    Options are fields. `less_empty` is one of `ComparedReading` alone.
    """

    info: ClassVar[EntryInfo]
    ranks_units: ClassVar[bool] = True
    """Whether its scores differ between the units of one window."""
    reader: Any
    less_empty = False

    def visitors(self, shape: WindowShape) -> VisitorFactories:
        """The sums that it needs of one window."""
        return {}

    def edit(self, shape: WindowShape) -> PassEdit | None:
        """A change to the pass; a reading with one has a pass of its own."""
        return None

    def token_weights(self, window: WindowAttention, branch: int) -> Tensor:
        """A weight of each head for each token of the passage, 0 or more: `[L, H, N]`.

        Args:
            branch: 0 for the question, 1 for "N/A".
        """
        raise NotImplementedError

    def pool(self, window: WindowAttention, spans: Sequence[TokenSpan]) -> Tensor:
        """Features of each unit, in logarithms: `[U, F]`; here log mean and log max of each head.

        Args:
            spans: of the units, in the passage's own tokens.
        """
        asked = log_mean_max(self.token_weights(window, 0), spans)
        if not self.less_empty:
            return asked
        return asked - log_mean_max(self.token_weights(window, 1), spans)

    def score(
        self, window: WindowAttention, spans: Sequence[TokenSpan], heads: Sequence[Head] | None
    ) -> Tensor:
        """A score of each unit without any fit: `[U]`; here the mean weight of its tokens.

        Args:
            heads: those that are averaged; None for all.
        """
        tokens = window.head_mean(self.token_weights(window, 0), heads)
        if self.less_empty:
            tokens = tokens - window.head_mean(self.token_weights(window, 1), heads)
        return mean_tokens(tokens, spans)


class ComparedReading(Reading):
    """A reading that can be compared with that of the question "N/A".

    With `less_empty` (ICR, arXiv 2410.02642, §3) features are differences of logarithms, scores
    differences of weights.
    """

    less_empty: bool = option(False, 'Less the same of the question "N/A".')


def mean_tokens(tokens: Tensor, spans: Sequence[TokenSpan]) -> Tensor:
    """The mean of values of either sign in each span, 0 for an empty one: `[U]`."""
    return torch.stack([tokens[a:b].sum() / max(1, b - a) for a, b in spans])


def log_mean_max(weights: Tensor, spans: Sequence[TokenSpan]) -> Tensor:
    """Logs of mean and maximum of `[L, H, N]` in each span: `[U, 2·L·H]`."""
    pooled = [pool_tokens(weights, spans, how).flatten(1) for how in ("mean", "max")]
    return torch.cat(pooled, 1).clamp_min(TINY).log()


def logs_for_every_unit(figures: Tensor, spans: Sequence[TokenSpan]) -> Tensor:
    """Logs of a window's F figures, of any shape, for each of its units: `[U, F]`."""
    return figures.flatten().clamp_min(TINY).log().expand(len(spans), -1)
