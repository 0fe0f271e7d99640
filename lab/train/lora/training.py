"""Reading with gradients: the signals of `Proxy.read`, with an autograd graph."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tamis.probes.attention.recorder import (
    AttentionInput,
    Recorder,
    StopForward,
    causal_mask,
    group_rows,
    softmax_rows,
    use_recorder,
)
from tamis.probes.model.proxy import Proxy
from tamis.probes.prompt import Prompt, RowSpans
from tamis.probes.signal import Signal, Want


class _TrainingAttention:
    """Attention of packed whole prompts, each to itself, in elementary operations.

    Its backward pass costs a third of that of SDPA for prompts of a few hundred tokens. The prompts
    are separated by one `torch.split`: the backward pass of a slice per prompt would fill a whole
    row with zeros each.

    Attributes:
        weights: per prompt, per requested layer in order, `[H, R', N]` fp32.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        spans: Sequence[tuple[int, int]],
        sentences: Sequence[RowSpans],
        want: Want,
    ) -> None:
        self.lengths, self.spans, self.sentences, self.want = list(lengths), spans, sentences, want
        self.weights: list[list[Tensor]] = [[] for _ in lengths]
        self._masks: dict[tuple[int, int | None], Tensor] = {}

    def attend(self, given: AttentionInput) -> Tensor:
        """From `query [1, H, N, d]` to `[1, N, H, d]`.

        Raises:
            StopForward: this is the deepest requested layer.
        """
        layer, query, key, value, scale, window = given
        parts = (torch.split(states[0], self.lengths, 1) for states in (query, key, value))
        outs = []
        for s, (q, k, v) in enumerate(zip(*parts, strict=True)):
            if layer in self.want.layers:
                start, stop = self.spans[s]
                mask = causal_mask(start, stop, len(k[0]), window, k.device)
                rows = softmax_rows(q[:, start:stop], k, mask, scale)
                self.weights[s].append(group_rows(rows, self.want.rows, self.sentences[s]))
            if layer < self.want.depth - 1:
                outs.append(_mix_values(q * scale, k, v, self._mask(len(k[0]), window, k)))
        if not outs:
            raise StopForward
        return torch.cat(outs, 1).transpose(0, 1)[None]

    def _mask(self, length: int, window: int | None, like: Tensor) -> Tensor:
        """0 where a token attends to another, else -inf: `[N, N]`."""
        if (length, window) not in self._masks:
            allowed = causal_mask(0, length, length, window, like.device)
            zeros = torch.zeros(length, length, dtype=like.dtype, device=like.device)
            self._masks[length, window] = zeros.masked_fill(~allowed, -torch.inf)
        return self._masks[length, window]


def _mix_values(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Attention output: `q [H, N, d]` scaled, `k` and `v [Hkv, N, d]` to `[H, N, d]`."""
    H, N, d = q.shape
    shared = H // len(k)
    # the query heads of a key head are stacked, so that keys are not copied
    mask = mask.repeat(shared, 1).expand(len(k), -1, -1)
    weights = torch.baddbmm(mask, q.reshape(len(k), -1, d), k.transpose(1, 2)).softmax(-1)
    return (weights @ v).view(H, N, -1)


def read_with_grad(proxy: Proxy, prompts: Sequence[Prompt], want: Want) -> list[Signal]:
    """Like `Proxy.read`, but all prompts in one pass, with an autograd graph."""
    opening = proxy.layout.opening
    sequences = [(*opening, *p.passage.ids, *p.question.ids) for p in prompts]
    spans = [
        (len(opening) + len(p.passage.ids) + p.question.first_row, len(opening) + len(p))
        for p in prompts
    ]
    sentences = [p.question.sentence_rows for p in prompts]
    attention = _TrainingAttention([len(ids) for ids in sequences], spans, sentences, want)
    ids = torch.tensor([token for sequence in sequences for token in sequence])
    positions = torch.cat([torch.arange(len(sequence)) for sequence in sequences])
    with use_recorder(Recorder(frozenset(), (), lengths=(), custom_attention=attention)):
        proxy.model(
            input_ids=ids[None].to(proxy.device),
            position_ids=positions[None].to(proxy.device),
            use_cache=False,
        )
    rows = (torch.stack(list(weights))[..., len(opening) :] for weights in attention.weights)
    return [Signal.cut_to_passage(w, p, want) for p, w in zip(prompts, rows, strict=True)]
