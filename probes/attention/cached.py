"""A question asked of passages that were read before: few new tokens, many kept keys.

    columns of a tile   [0, h) the template's opening, the same for all   [h, h + R) the question's
                        own tokens   [h + R, h + R + N_t) passage t, then padding

Prompts that follow each other and have equally long questions are attended to in tiles: their kept
keys are laid side by side in one buffer and multiplied at once: in fp32, or in bf16 where the model
is and `row_blocks` are used (rounded logits are no further from cold ones, see docs/log/speed.md).
The softmax that is recorded is the one that the model goes on with, so attention is computed once,
not once for the model and once for the reader. A tile is as large as a processor's cache, or a part
of a GPU's memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tamis.probes.attention import blocked
from tamis.probes.attention.int8 import Int8Vectors
from tamis.probes.attention.kv_layers import KVLayers
from tamis.probes.attention.recorder import KVLayer, StopForward
from tamis.probes.attention.rows import group_rows, group_rows_fp32
from tamis.probes.signal import RowGroup

TILE_BYTES = 2 << 20
"""Keys and values of one tile on a CPU: what a core's second-level cache holds, see
docs/log/kept-passages.md."""

_GPU_TILE_BYTES = 256 << 20
_NEVER_SEEN = 1 << 30  # a position that no token sees


@dataclass(frozen=True, slots=True)
class CachedPrompt:
    """One prompt whose passage is kept.

    Attributes:
        passage: keys and values of its title line and passage, layer by layer, the head aside.
        tokens: of its question piece, which runs. rows: the first of them that is a row.
    """

    passage_kv: KVLayers
    question_tokens: int
    first_row: int

    @property
    def passage_tokens(self) -> int:
        """How many tokens are kept."""
        return self.passage_kv[0].keys.shape[1]


@dataclass(slots=True)
class _Tile:
    """Consecutive prompts of a batch, whose new tokens are `[start, start + T·R)`."""

    prompts: Sequence[CachedPrompt]
    start: int
    window_masks: dict[int, Tensor] = field(default_factory=dict)
    weights: list[Tensor] = field(default_factory=list)

    @property
    def question_tokens(self) -> int:
        """Tokens of the question, the same for all."""
        return self.prompts[0].question_tokens

    @property
    def max_passage_tokens(self) -> int:
        """Tokens of the longest passage."""
        return max(prompt.passage_tokens for prompt in self.prompts)


class CachedAttention:
    """Attends for one forward pass over packed questions, and records what it saw.

    Args:
        head: keys and values of the template's opening.
        prompts: in the order in which they are packed.
        layers: those to record; the pass ends with the last of them.
        groups: how rows are reduced before they are stored.
        device: where the model is.
    """

    def __init__(
        self,
        opening: Sequence[KVLayer],
        prompts: Sequence[CachedPrompt],
        layers: Sequence[int],
        groups: tuple[RowGroup, ...],
        device: torch.device,
    ) -> None:
        self.opening, self.layers, self.groups = opening, frozenset(layers), groups
        self.last, self.device = max(layers), device
        self._opening_tokens = opening[0].keys.shape[1]
        self._buffers: dict[str, Tensor] = {}
        self._causal_masks: dict[int, Tensor] = {}
        self._tiles = list(self._make_tiles(prompts))

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scale: float,
        window: int | None,
    ) -> Tensor:
        """`query [1, H, Nq, d]` over what is kept and itself: `[1, Nq, H, d]`."""
        outs = []
        for tile in self._tiles:
            q, k, v = (_tile_states(part[0], tile) for part in (query, key, value))
            grown, sums = self._softmax(tile, layer, q, k, scale, window)
            if layer in self.layers:
                seen = _group_tile_rows(grown, sums, tile.prompts[0].first_row, self.groups)
                tile.weights.append(seen[..., self._opening_tokens + tile.question_tokens :].clone())
            if layer != self.last:
                outs.append(self._weighted_values(tile, layer, grown, v, sums))
        if layer == self.last:
            raise StopForward
        return torch.cat(outs)[None]

    def weights(self) -> Iterator[Tensor]:
        """What was recorded, prompt by prompt: `[L, H, R', N]` fp32 over the kept tokens."""
        for tile in self._tiles:
            for t, prompt in enumerate(tile.prompts):
                yield torch.stack([layer[t, ..., : prompt.passage_tokens] for layer in tile.weights])

    def _make_tiles(self, prompts: Sequence[CachedPrompt]) -> Iterator[_Tile]:
        heads, _, size = self.opening[0].keys.shape
        most = TILE_BYTES if self.device.type == "cpu" else _GPU_TILE_BYTES
        most //= heads * size * (4 + self.opening[0].values.element_size())
        run: list[CachedPrompt] = []
        start = width = 0
        for prompt in prompts:
            columns = self._opening_tokens + prompt.question_tokens + prompt.passage_tokens
            width = max(width, columns)
            alike = not run or (prompt.question_tokens, prompt.first_row) == (run[0].question_tokens, run[0].first_row)
            if run and not (alike and width * (len(run) + 1) <= most):
                yield _Tile(run, start)
                start += len(run) * run[0].question_tokens
                run, width = [], columns
            run.append(prompt)
        yield _Tile(run, start)

    def _softmax(
        self, tile: _Tile, layer: int, q: Tensor, k: Tensor, scale: float, window: int | None
    ) -> tuple[Tensor, Tensor | None]:
        """Softmax `[T, H, R, C]`; in fp32 undivided, and its sums `[T, H, R, 1]`.

        To divide what comes of it, which is smaller, is less work. In bf16 it is divided.
        """
        T, H, R, d = q.shape
        dtype = q.dtype if blocked.is_faster(q) else torch.float32
        kept = [prompt.passage_kv[layer].keys for prompt in tile.prompts]
        keys = self._lay_out("keys", dtype, self.opening[layer].keys, k, kept)
        heads, columns = keys.shape[1:3]
        logits = self._buffer("logits", (T, heads, H // heads * R, columns), dtype)
        looking = (q.to(dtype) * scale).reshape(T, heads, -1, d)
        torch.matmul(looking, keys.transpose(2, 3), out=logits)
        grown = logits.view(T, H, R, columns)
        self._mask_logits(tile, grown, window)
        if dtype != torch.float32:
            return grown.softmax(-1), None
        grown.sub_(grown.amax(-1, keepdim=True)).exp_()
        return grown, grown.sum(-1, keepdim=True)

    def _weighted_values(
        self, tile: _Tile, layer: int, grown: Tensor, v: Tensor, sums: Tensor | None
    ) -> Tensor:
        """The values, weighed by the softmax `grown / sums`: `[T·R, H, d]`."""
        T, H, R, columns = grown.shape
        kept = [prompt.passage_kv[layer].values for prompt in tile.prompts]
        values = self._lay_out("values", v.dtype, self.opening[layer].values, v, kept)
        out = grown.to(v.dtype).view(T, values.shape[1], -1, columns) @ values
        out = out.view(T, H, R, -1)
        if sums is not None:
            out = (out / sums).to(v.dtype)
        return out.transpose(1, 2).reshape(T * R, H, -1)

    def _lay_out(
        self,
        name: str,
        dtype: torch.dtype,
        head: Tensor,
        new: Tensor,
        kept: Sequence[Tensor | Int8Vectors],
    ) -> Tensor:
        """Opening, question and passages of one tile side by side: `[T, Hkv, C, d]`."""
        T, heads, R, d = new.shape
        start = self._opening_tokens + R
        columns = start + max(one.shape[1] for one in kept)
        laid = self._buffer(name, (T, heads, columns, d), dtype)
        laid[:, :, : self._opening_tokens] = head
        laid[:, :, self._opening_tokens : start] = new
        for t, one in enumerate(kept):
            place = laid[t, :, start : start + one.shape[1]]
            one.dequantize_into(place) if isinstance(one, Int8Vectors) else place.copy_(one)
        return laid

    def _buffer(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Memory that is used again, layer by layer and tile by tile."""
        size = torch.Size(shape).numel()
        if (room := self._buffers.get(name)) is None or room.numel() < size:
            # zeros, not empty: padding gets no weight, and 0 times a NaN left there would be NaN
            room = self._buffers[name] = torch.zeros(size, dtype=dtype, device=self.device)
        return room[:size].view(shape)

    def _mask_logits(self, tile: _Tile, logits: Tensor, window: int | None) -> None:
        """Sets to -inf what a token does not see: later ones, padding, what its window excludes."""
        if window is not None:
            logits.add_(self._window_mask(tile, window))
            return
        R, start = tile.question_tokens, self._opening_tokens + tile.question_tokens
        logits[..., self._opening_tokens : start].masked_fill_(self._causal_mask(R), -torch.inf)
        for t, prompt in enumerate(tile.prompts):
            if prompt.passage_tokens < tile.max_passage_tokens:
                logits[t, ..., start + prompt.passage_tokens :] = -torch.inf

    def _causal_mask(self, R: int) -> Tensor:
        """Which of R tokens come after which."""
        if R not in self._causal_masks:
            self._causal_masks[R] = torch.ones(R, R, dtype=torch.bool, device=self.device).triu(1)
        return self._causal_masks[R]

    def _window_mask(self, tile: _Tile, window: int) -> Tensor:
        """0 where a token sees a column, else -inf; made once a pass: `[T, 1, R, C]`."""
        if window not in tile.window_masks:
            h, kept = self._opening_tokens, torch.tensor([p.passage_tokens for p in tile.prompts])[:, None]
            new, passage = h + kept + torch.arange(tile.question_tokens), torch.arange(tile.max_passage_tokens)
            passage = torch.where(passage < kept, h + passage, _NEVER_SEEN)
            opening = torch.arange(h).expand(len(kept), h)
            column, row = torch.cat((opening, new, passage), 1)[:, None], new[:, :, None]
            hidden = (column > row) | (column <= row - window)
            zeros = torch.zeros(hidden.shape).masked_fill_(hidden, -torch.inf)
            tile.window_masks[window] = zeros[:, None].to(self.device)
        return tile.window_masks[window]


def _tile_states(part: Tensor, tile: _Tile) -> Tensor:
    """One tile's new tokens: `[heads, Nq, d]` to `[T, heads, R, d]`."""
    T, R = len(tile.prompts), tile.question_tokens
    new = part[:, tile.start : tile.start + T * R]
    return new.view(part.shape[0], T, R, -1).transpose(0, 1)


def _group_tile_rows(grown: Tensor, sums: Tensor | None, rows: int, groups: tuple[RowGroup, ...]) -> Tensor:
    """Rows of the softmax `grown / sums`, from `rows` on, in groups: `[T, H, R', C]` fp32."""
    looking = grown[:, :, rows:]
    if sums is None:
        return group_rows_fp32(looking, groups)
    sums = sums[:, :, rows:]
    if groups == ("question_mean",):
        return (sums.reciprocal() / sums.shape[2]).transpose(2, 3) @ looking
    return group_rows(looking / sums, groups)
