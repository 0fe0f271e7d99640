"""The attention a method requests (`Want`) and the attention it receives (`Signal`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from tamis.probes.errors import BadInput
from tamis.probes.precision import to_float64

if TYPE_CHECKING:
    from tamis.probes.prompt import Paused, Prompt

Pool = Literal["sum", "mean", "max"]
RowGroup = Literal["question", "question_mean", "sentence_means", "last"]
"""`question`: every row from the question's first token to the prompt's end. `question_mean`: their
mean. `sentence_means`: of a question of several sentences, the mean of the rows of each; of another
the mean of all. `last`: the prompt's last row alone."""


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
    """

    weights: Tensor
    layers: tuple[int, ...]
    rows: tuple[str, ...]
    cached_tokens: int = 0
    paused: Paused | None = None

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
    if how == "max":
        return torch.stack(
            [
                weights[..., a:b].amax(-1) if b > a else weights.new_zeros(weights.shape[:-1])
                for a, b in spans
            ]
        )
    # fp64: sums are differences of running totals; a tiny share must survive beside a sink of .9
    total = torch.nn.functional.pad(to_float64(weights).cumsum(-1), (1, 0))
    starts = torch.tensor([a for a, _ in spans], device=total.device)
    stops = torch.tensor([b for _, b in spans], device=total.device)
    sums = (total[..., stops] - total[..., starts]).clamp_min(0).movedim(-1, 0)
    if how == "mean":
        width = (stops - starts).clamp_min(1).view(-1, *[1] * (sums.ndim - 1))
        sums = sums / width
    return sums.to(weights.dtype).to(weights.device)
