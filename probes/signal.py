"""The attention a method requests (`Want`) and the attention it receives (`Signal`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from tamis.probes.devices import Ints, copy_to, to_float64
from tamis.probes.errors import BadInput

if TYPE_CHECKING:
    from tamis.probes.prompt import Paused, Prompt


Pool = Literal["sum", "mean", "max"]
Spans = Sequence[tuple[int, int]]
RowGroup = Literal["question", "question_mean", "sentence_means", "last"]
"""`question`: every row from the question's first token to the prompt's end. `question_mean`: their
mean. `sentence_means`: of a question of several sentences, the mean of the rows of each; of another
the mean of all. `last`: the prompt's last row alone."""

_LEAST_WIDTH = 16
"""Spans are pooled together with those of up to twice their length, and the shortest with all up to
this one."""


@dataclass(frozen=True, slots=True)
class Want:
    """The attention a method needs, stated before any model runs.

    Attributes:
        layers: model layers whose attention is read, ascending, counted from 0. Layers above the
            last one do not run.
        rows: the groups of query rows.
        keep_kv: also return the keys and values of every layer, so that further questions about the
            passage need not run it again.
        pause: also return what is needed to run deeper layers later: `Signal.paused`. Only a
            reader that `can_pause` does.
    """

    layers: tuple[int, ...]
    rows: tuple[RowGroup, ...] = ("question_mean",)
    keep_kv: bool = False
    pause: bool = False

    def __post_init__(self) -> None:
        if list(self.layers) != sorted({layer for layer in self.layers if layer >= 0}):
            raise BadInput(f"layers are {self.layers}; give each once, ascending, counted from 0")

    @property
    def depth(self) -> int:
        """The number of layers that have to run."""
        return max(self.layers) + 1


@dataclass(frozen=True, slots=True)
class SharedRows:
    """Recorded rows of one sequence inside the padded tensor of its batch.

    Attributes:
        weights: `[L, B, H, R', N]` fp32. What is padded repeats a row of the sequence, or is 0; the
            last column is 0 for all.
        place: of the sequence, on the B axis. rows: how many of its R' rows are its own.
        start, stop: the half-open span of its columns that it is asked for.
    """

    weights: Tensor
    place: int
    rows: int
    start: int
    stop: int

    def own(self) -> Tensor:
        """Its own rows and columns: `[L, H, R, N]`, a view."""
        return self.weights[:, self.place, :, : self.rows, self.start : self.stop]


@dataclass(frozen=True, slots=True)
class Signal:
    """The attention that some query rows of one prompt pay to the tokens of its passage.

    Attributes:
        weights: `[L, H, R, N]` fp32, softmax over the whole prompt, cut to the N passage tokens.
        layers: the L model layers, ascending.
        rows: the row groups as `Want.rows` names them; `question` stands for one entry of the R
            axis per row, `sentence_means` for one per sentence, the others for one each.
        cached_tokens: how many of the prompt's tokens did not run because their keys and values
            were cached.
        paused: with what the prompt is read on; None unless `Want.pause`.
        shared: where the weights are part of a whole batch's, which can be pooled at once.
    """

    weights: Tensor
    layers: tuple[int, ...]
    rows: tuple[str, ...]
    cached_tokens: int = 0
    paused: Paused | None = None
    shared: SharedRows | None = None

    @classmethod
    def cut_to_passage(
        cls,
        weights: Tensor,
        prompt: Prompt,
        want: Want,
        cached_tokens: int = 0,
        paused: Paused | None = None,
    ) -> Signal:
        """From rows over title and passage, `[L, H, R', N]`, cut to the passage's own tokens."""
        # [0, start) title   [start, stop) passage
        start, stop = prompt.passage.title_tokens, len(prompt.passage.ids)
        return cls(weights[..., start:stop], want.layers, want.rows, cached_tokens, paused)

    def pool(self, spans: Sequence[tuple[int, int]], how: Pool = "sum") -> Tensor:
        """The weights pooled over each token span: `[U, L, H, R]`.

        An empty span pools to zero. Spans may overlap: a token that straddles two sentences
        counts for both.
        """
        return pool_tokens(self.weights, spans, how)


def pool_tokens(weights: Tensor, spans: Sequence[tuple[int, int]], how: Pool) -> Tensor:
    """The sum, mean or maximum of `weights[..., a:b]` for each span `(a, b)`: `[U, ...]`."""
    if not spans:
        return weights.new_zeros((0, *weights.shape[:-1]))
    if weights.device.type != "cpu":
        return _pool_on_device(weights, spans, how)
    if how == "max":
        return torch.stack(
            [
                weights[..., a:b].amax(-1) if b > a else weights.new_zeros(weights.shape[:-1])
                for a, b in spans
            ]
        )
    # fp64: sums are differences of running totals; a tiny share must survive beside a sink of .9
    total = torch.nn.functional.pad(weights.double().cumsum(-1), (1, 0))
    starts = torch.tensor([a for a, _ in spans], device=weights.device)
    stops = torch.tensor([b for _, b in spans], device=weights.device)
    sums = (total[..., stops] - total[..., starts]).clamp_min(0).movedim(-1, 0)
    if how == "mean":
        width = (stops - starts).clamp_min(1).view(-1, *[1] * (sums.ndim - 1))
        sums = sums / width
    return sums.to(weights.dtype)


def pool_shared(
    rows: Sequence[SharedRows], spans: Sequence[Spans]
) -> tuple[Tensor, Tensor, Tensor]:
    """Sum, maximum and width of each token span, of many sequences of one padded batch.

    Args:
        rows: the sequences; all of one tensor.
        spans: of each sequence, within its own columns.

    Returns:
        Sums and maxima, each `[U, L, H, R']`, the spans of all sequences in order: what
        `Signal.pool` has of every row, and behind a sequence's own rows one of these, or 0. Widths
        in tokens, at least 1: `[U, 1, 1, 1]`.
    """
    every = [
        (one.place, one.start + a, one.start + b)
        for one, some in zip(rows, spans, strict=True)
        for a, b in some
    ]
    return _pool_places(rows[0].weights, every)


def _pool_on_device(weights: Tensor, spans: Spans, how: Pool) -> Tensor:
    """`pool_tokens` in few calls, whatever the number of spans."""
    columns = torch.nn.functional.pad(weights, (0, 1)).reshape(1, 1, -1, 1, weights.shape[-1] + 1)
    sums, best, widths = _pool_places(columns, [(0, a, b) for a, b in spans])
    pooled = {"sum": sums, "max": best, "mean": sums / widths}[how]
    return pooled.view(len(spans), *weights.shape[:-1])


def _pool_places(
    weights: Tensor, spans: Sequence[tuple[int, int, int]]
) -> tuple[Tensor, Tensor, Tensor]:
    """Sum and maximum over spans `(b, start, stop)` of `weights [L, B, H, R, N]`, and their widths.

    The last column has to be 0: it is what a span is padded with. Every span is summed by itself,
    so that fp32 is enough: nothing is a difference of two totals.

    Returns:
        Two `[U, L, H, R]`, and `[U, 1, 1, 1]` of the spans' lengths, at least 1.
    """
    given: Ints = np.array(spans, dtype=np.int64).reshape(-1, 3)
    lengths = given[:, 2] - given[:, 1]
    steps = np.ceil(np.log2(np.maximum(lengths, 1) / _LEAST_WIDTH)).clip(0).astype(np.int64)
    order = np.argsort(steps, kind="stable")
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    parts: list[Ints] = [back, np.maximum(lengths, 1)]
    for step in np.unique(steps):
        some = given[steps == step]
        offset = np.arange(_LEAST_WIDTH << int(step))
        inside = offset < (some[:, 2] - some[:, 1])[:, None]
        parts += [some[:, :1], np.where(inside, some[:, 1:2] + offset, weights.shape[-1] - 1)]
    flat = torch.from_numpy(np.concatenate([part.ravel() for part in parts]))
    sent = torch.split(copy_to(flat, weights.device), [part.size for part in parts])
    restore, widths, *places = (t.view(a.shape) for t, a in zip(sent, parts, strict=True))
    sums, best = [], []
    for place, columns in zip(places[::2], places[1::2], strict=True):
        picked = weights[:, place, :, :, columns]  # [U, W, L, H, R]
        sums.append(picked.sum(1))
        best.append(picked.amax(1))
    joined = (torch.cat(part).index_select(0, restore) for part in (sums, best))
    return next(joined), next(joined), widths.view(-1, 1, 1, 1)


def box_filter(scores: Tensor, width: int, padded: bool = False) -> Tensor:
    """The moving average over `width` tokens, stride 1, same length: `[..., N]`.

    Token i is averaged over `[i - width // 2, i - width // 2 + width)`.

    Args:
        padded: count places beyond both ends as zeros, as a convolution with "same" padding does;
            else the mean is over the tokens that exist.

    Raises:
        BadInput: a width below 1.
    """
    if width < 1:
        raise BadInput(f"a width of {width} tokens; give at least 1")
    N = scores.shape[-1]
    total = torch.nn.functional.pad(to_float64(scores).cumsum(-1), (1, 0))
    place = torch.arange(N, device=total.device) - width // 2
    start, stop = place.clamp(0, N), (place + width).clamp(0, N)
    sums = total[..., stop] - total[..., start]
    return (sums / (width if padded else (stop - start))).to(scores.dtype).to(scores.device)
