"""Reading with a graph: what `Proxy.read` sees, and gradients flow back through it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tamis.probes.attention.recorder import Recorder, StopForward, use_recorder
from tamis.probes.attention.rows import causal_mask, group_rows, softmax_rows
from tamis.probes.model.proxy import Proxy
from tamis.probes.prompt import Prompt
from tamis.probes.signal import Signal, Want


class _TrainingAttention:
    """Attention of whole prompts end to end, each to itself, written out.

    Written out, its way back costs a third of that of SDPA for prompts of a few hundred tokens; and
    one split takes the prompts apart, where a slice each would fill a whole row with zeros on the
    way back.

    Attributes:
        weights: per prompt, per layer wanted in order, `[H, R', N]` fp32.
    """

    def __init__(
        self, lengths: Sequence[int], spans: Sequence[tuple[int, int]], want: Want
    ) -> None:
        self.lengths, self.spans, self.want = list(lengths), spans, want
        self.weights: list[list[Tensor]] = [[] for _ in lengths]
        self._masks: dict[tuple[int, int | None], Tensor] = {}

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scale: float,
        window: int | None,
    ) -> Tensor:
        """`query [1, H, N, d]`; returns `[1, N, H, d]`, or raises `Enough` after the last layer."""
        parts = (torch.split(states[0], self.lengths, 1) for states in (query, key, value))
        outs = []
        for s, (q, k, v) in enumerate(zip(*parts, strict=True)):
            if layer in self.want.layers:
                start, stop = self.spans[s]
                seen = causal_mask(start, stop, len(k[0]), window, k.device)
                seen_rows = softmax_rows(q[:, start:stop], k, seen, scale)
                self.weights[s].append(group_rows(seen_rows, self.want.rows))
            if layer < self.want.depth - 1:
                outs.append(_mix_values(q * scale, k, v, self._mask(len(k[0]), window, k)))
        if not outs:
            raise StopForward
        return torch.cat(outs, 1).transpose(0, 1)[None]

    def _mask(self, length: int, window: int | None, like: Tensor) -> Tensor:
        """Zero where a token sees another, `[N, N]`; -inf elsewhere."""
        if (length, window) not in self._masks:
            seen = causal_mask(0, length, length, window, like.device)
            hidden = torch.zeros(length, length, dtype=like.dtype, device=like.device)
            self._masks[length, window] = hidden.masked_fill(~seen, -torch.inf)
        return self._masks[length, window]


def _mix_values(q: Tensor, k: Tensor, v: Tensor, hidden: Tensor) -> Tensor:
    """Values mixed by attention: `q [H, N, d]` scaled, `k` and `v [Hkv, N, d]` to `[H, N, d]`."""
    H, N, d = q.shape
    shared = H // len(k)
    # the query heads of a key head stand below each other, so that keys are not copied
    mask = hidden.repeat(shared, 1).expand(len(k), -1, -1)
    weights = torch.baddbmm(mask, q.reshape(len(k), -1, d), k.transpose(1, 2)).softmax(-1)
    return (weights @ v).view(H, N, -1)


def read_with_grad(proxy: Proxy, prompts: Sequence[Prompt], want: Want) -> list[Signal]:
    """Like `Proxy.read`, of all prompts in one pass, with the graph behind it."""
    head = proxy.layout.opening
    sequences = [(*head, *p.passage.ids, *p.question.ids) for p in prompts]
    spans = [(len(head) + len(p.passage.ids) + p.question.first_row, len(head) + len(p)) for p in prompts]
    learning = _TrainingAttention([len(ids) for ids in sequences], spans, want)
    ids = torch.tensor([token for sequence in sequences for token in sequence])
    places = torch.cat([torch.arange(len(sequence)) for sequence in sequences])
    with use_recorder(Recorder(frozenset(), (), lengths=(), custom_attention=learning)):
        proxy.model(
            input_ids=ids[None].to(proxy.device),
            position_ids=places[None].to(proxy.device),
            use_cache=False,
        )
    seen = (torch.stack(list(weights))[..., len(head) :] for weights in learning.weights)
    return [Signal.cut_to_passage(w, p, want) for p, w in zip(prompts, seen, strict=True)]
