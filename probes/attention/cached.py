"""Attention of questions to passages whose keys are cached: few new tokens, many cached keys.

    columns of a tile   [0, h) the template's opening, the same for all   [h, h + R) the question's
                        own tokens   [h + R, h + R + N_t) passage t, then padding

Consecutive prompts with equally long questions are processed in tiles: their cached keys are copied
side by side into one buffer and multiplied at once, in fp32; or in bf16, where the model is in bf16
and the processor multiplies it (rounded logits are no further from uncached ones, see
lab/log/speed.md#2026-11-25-attention-in-blocks-of-rows-and-how-long-threads-spin
and lab/log/speed.md#2026-11-29-warm-requests-what-is-not-arithmetic).
The recorded softmax is the one that the model's own pass uses, so attention is computed once, not
once for the model and once for the recorder. A tile is as large as a processor's cache, or a part
of a GPU's memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tamis.probes.attention.coded_layer import CodedKVLayer, JoinedCodes, decode_layers
from tamis.probes.attention.kv_layers import (
    KVLayers,
    SeparateKVLayer,
    StoredKVLayer,
    count_columns,
    count_tokens,
    placement_of,
)
from tamis.probes.attention.linear_kernels import can_fuse
from tamis.probes.attention.recorder import (
    AttentionInput,
    KVLayer,
    StopForward,
    group_rows,
    group_rows_fp32,
    is_question_mean,
)
from tamis.probes.attention.rounding.int8 import Int8Vectors
from tamis.probes.attention.rounding.low_bits import (
    JoinedLowBits,
    LowBitVectors,
    TokenPlaces,
    is_joinable,
)
from tamis.probes.attention.thin_layer import ThinKVLayer, Vectors
from tamis.probes.prompt import RowSpans
from tamis.probes.signal import RowGroup

TILE_BYTES = 2 << 20
"""Bytes of keys and values of one tile on a CPU: about a core's second-level cache, see
lab/log/kept-passages.md#2026-11-24-warm-against-cold."""

_GPU_TILE_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class CachedPrompt:
    """One prompt whose passage is cached.

    Attributes:
        passage_kv: keys and values of its title line and passage, layer by layer, without those of
            the template's opening.
        question_tokens: the length of its question piece, which runs.
        first_row: the index of the first of these tokens whose attention is recorded.
        sentences: the rows of each sentence of the question; empty where it has no two.
    """

    passage_kv: KVLayers
    question_tokens: int
    first_row: int
    sentences: RowSpans = ()

    @property
    def passage_tokens(self) -> int:
        """The number of cached tokens."""
        return count_tokens(self.passage_kv)


class KeptPast:
    """What questions attend to: the template's opening, and of each its passage, `batched.Past`.

    Args:
        opening: keys and values of the template's opening. prompts: of one batch.
    """

    def __init__(self, opening: Sequence[KVLayer], prompts: Sequence[CachedPrompt]) -> None:
        self._opening = opening
        own = {id(one.passage_kv): one for one in prompts}
        self._passages = [one.passage_kv for one in own.values()]
        self.sizes: Sequence[int] = [one.passage_tokens for one in own.values()]
        self.tokens: TokenPlaces
        self._low_bits: JoinedLowBits | None = None
        self._coded: JoinedCodes | None = None
        self._coded_layers = 0
        self._groups: dict[int, tuple[int, int]] | None = None
        places, start = {}, opening[0].keys.shape[1]
        head = (0, start)
        for name, one in own.items():
            places[name] = (start, start + one.passage_tokens)
            start += one.passage_tokens
        self.spans: Sequence[Sequence[tuple[int, int]]] = [
            (head, places[id(one.passage_kv)]) for one in prompts
        ]

    @staticmethod
    def can_hold(prompts: Sequence[CachedPrompt]) -> bool:
        """Whether all layers have a key for every token."""
        return not any(placement_of(layer) for one in prompts for layer in one.passage_kv)

    def layer(
        self, layer: int, like: Tensor, with_values: bool
    ) -> tuple[list[Tensor], list[Tensor]]:
        """As `batched.Past` has it: what is kept of all passages is decoded together."""
        own = self._opening[layer]
        stored = [passage[layer] for passage in self._passages]
        if self._groups is None:
            self._groups = self._join_low_bits()
            self._coded_layers = self._join_codes()
        if self._coded is not None and layer < self._coded_layers:
            keys, values = self._coded.decode(layer, like.dtype)
            return [own.keys, keys], [own.values, values]
        start, stop = self._groups.get(layer, (0, 0))
        if self._low_bits is not None and stop - start > with_values:
            keys, *rest = self._low_bits.decode(start, start + 1 + with_values).to(like).unbind(1)
            return [own.keys, keys], [own.values, *rest]
        joined, others = join_passages(stored, like, with_values)
        return [own.keys, *joined], [own.values, *others]

    def _join_codes(self) -> int:
        """Joins what is coded alike, of the first layers; how many those are."""
        layers: list[list[CodedKVLayer]] = []
        for stored in zip(*self._passages, strict=False):
            own = [one for one in stored if isinstance(one, CodedKVLayer)]
            if len(own) < len(stored) or len({id(one.code) for one in own}) > 1:
                break
            layers.append(own)
        if layers:
            packed = [[one.packed for one in own] for own in layers]
            self._coded = JoinedCodes([own[0].code for own in layers], packed, self.tokens.places)
        return len(layers)

    def _join_low_bits(self) -> dict[int, tuple[int, int]]:
        """Joins what is in few bits, of all layers; where each layer's keys and values are then."""
        groups: list[Sequence[LowBitVectors]] = []
        found = {}
        for layer, stored in enumerate(zip(*self._passages, strict=False)):
            start = len(groups)
            thin = [one for one in stored if isinstance(one, ThinKVLayer)]
            for vectors in ([one.keys for one in thin], [one.values for one in thin]):
                own = [one for one in vectors if isinstance(one, LowBitVectors)]
                bits = {one.bits for group in (own, *groups[:1]) for one in group}
                if (
                    len(own) < len(stored)
                    or len(bits) > 1
                    or not is_joinable(own[0].bits, own[0].shape[2])
                ):
                    break
                groups.append(own)
            found[layer] = start, len(groups)
        self._low_bits = JoinedLowBits(groups, self.tokens) if groups else None
        return found


def join_passages(
    stored: Sequence[StoredKVLayer], like: Tensor, with_values: bool
) -> tuple[list[Tensor], list[Tensor]]:
    """Keys and values of one layer of passages, as parts `[Hkv, n, d]` in the dtype of `like`."""
    separate: list[SeparateKVLayer] = []
    for one in stored:
        separate += decode_layers([one], like.dtype) if isinstance(one, CodedKVLayer) else [one]
    values = [one.values for one in separate] if with_values else []
    return join_vectors([one.keys for one in separate], like), join_vectors(values, like)


def join_vectors(parts: Sequence[Vectors], like: Tensor) -> list[Tensor]:
    """Vectors of passages in the dtype of `like`: those in 8 bits as one, others one by one."""
    if parts and all(isinstance(one, Int8Vectors) for one in parts):
        whole = Int8Vectors.join([one for one in parts if isinstance(one, Int8Vectors)])
        target = like.new_empty(whole.shape)
        whole.dequantize_into(target)
        return [target]
    found = []
    for one in parts:
        if isinstance(one, Tensor):
            found.append(one if one.dtype == like.dtype else one.to(like.dtype))
        else:
            found.append(like.new_empty(one.shape))
            one.dequantize_into(found[-1])
    return found


@dataclass(frozen=True, slots=True)
class _Places:
    """Where a tile's keys, or its values, are laid out: the same memory for every layer.

    Attributes:
        widths: the columns of each passage.
        whole: all of it, `[T, Hkv, C, d]`.
        opening, new: views of the columns of the opening and of the question's own tokens.
        passages: of each passage's, `[Hkv, N_t, d]`.
    """

    widths: tuple[int, ...]
    whole: Tensor
    opening: Tensor
    new: Tensor
    passages: list[Tensor]

    def fill(self, opening: Tensor, new: Tensor, passages: Sequence[Vectors]) -> None:
        """Copies one layer's vectors there."""
        self.opening.copy_(opening)
        self.new.copy_(new)
        exact = [one for one in passages if isinstance(one, Tensor)]
        if len(exact) == len(passages):
            torch._foreach_copy_(self.passages, exact)
            return
        for target, one in zip(self.passages, passages, strict=True):
            target.copy_(one) if isinstance(one, Tensor) else one.dequantize_into(target)


@dataclass(slots=True)
class _Tile:
    """T consecutive prompts of a batch, whose new tokens are `[start, start + T·R)`."""

    prompts: Sequence[CachedPrompt]
    start: int
    places: dict[str, _Places] = field(default_factory=dict)
    window_masks: dict[int, Tensor] = field(default_factory=dict)
    weights: list[Tensor] = field(default_factory=list)

    @property
    def question_tokens(self) -> int:
        """The length R of the question piece, the same for all prompts."""
        return self.prompts[0].question_tokens

    def decode_layer(self, layer: int, dtype: torch.dtype) -> list[SeparateKVLayer]:
        """What is kept of each passage in a layer, keys and values apart."""
        stored = [prompt.passage_kv[layer] for prompt in self.prompts]
        coded = [one for one in stored if isinstance(one, CodedKVLayer)]
        separate = [one for one in stored if not isinstance(one, CodedKVLayer)]
        if not coded:
            return separate
        decoded, others = iter(decode_layers(coded, dtype)), iter(separate)
        return [next(decoded if isinstance(one, CodedKVLayer) else others) for one in stored]


class CachedAttention:
    """Computes and records the attention of one forward pass over packed questions.

    Args:
        opening: keys and values of the template's opening.
        prompts: in the order in which they are packed.
        layers: the layers to record; the pass ends with the last of them.
        groups: the row groups that rows are reduced to before they are stored.
        device: of the model.
        go_on: whether the pass goes on behind the last of the layers.
    """

    def __init__(
        self,
        opening: Sequence[KVLayer],
        prompts: Sequence[CachedPrompt],
        layers: Sequence[int],
        groups: tuple[RowGroup, ...],
        device: torch.device,
        go_on: bool = False,
    ) -> None:
        self.opening, self.layers, self.groups = opening, frozenset(layers), groups
        self.last, self.device = None if go_on else max(layers), device
        self._opening_tokens = opening[0].keys.shape[1]
        self._buffers: dict[str, Tensor] = {}
        self._masks = TileMasks(self._opening_tokens, device)
        self._tiles = list(self._make_tiles(prompts))

    def attend(self, given: AttentionInput) -> Tensor:
        """Attention of `query [1, H, Nq, d]` to cached and new keys: `[1, Nq, H, d]`."""
        layer, outs = given.layer, []
        for tile in self._tiles:
            # of query, key and value
            q, k, v = (_tile_states(part[0], tile) for part in given[1:4])
            kept = tile.decode_layer(layer, q.dtype)
            grown, sums = self._softmax(tile, kept, q, k, given)
            if layer in self.layers:
                rows = _group_tile_rows(grown, sums, tile.prompts[0], self.groups)
                start = self._opening_tokens + tile.question_tokens
                tile.weights.append(rows[..., start:].clone())
            if layer != self.last:
                outs.append(self._weighted_values(tile, kept, layer, grown, v, sums))
        if layer == self.last:
            raise StopForward
        return torch.cat(outs)[None]

    def weights(self) -> Iterator[Tensor]:
        """The recorded rows, prompt by prompt: `[L, H, R', N]` fp32 over the passage's tokens."""
        for tile in self._tiles:
            for t, prompt in enumerate(tile.prompts):
                yield torch.stack(
                    [
                        _spread(weights[t], prompt.passage_kv[layer])
                        for layer, weights in zip(sorted(self.layers), tile.weights, strict=True)
                    ]
                )

    def _make_tiles(self, prompts: Sequence[CachedPrompt]) -> Iterator[_Tile]:
        heads, _, size = self.opening[0].keys.shape
        max_columns = TILE_BYTES if self.device.type == "cpu" else _GPU_TILE_BYTES
        max_columns //= heads * size * (4 + self.opening[0].values.element_size())
        run: list[CachedPrompt] = []
        start = width = 0
        for prompt in prompts:
            columns = self._opening_tokens + prompt.question_tokens + prompt.passage_tokens
            width = max(width, columns)
            same_shape = not run or _question_shape(prompt) == _question_shape(run[0])
            if run and not (same_shape and width * (len(run) + 1) <= max_columns):
                yield _Tile(run, start)
                start += len(run) * run[0].question_tokens
                run, width = [], columns
            run.append(prompt)
        yield _Tile(run, start)

    def _softmax(
        self,
        tile: _Tile,
        kept: Sequence[SeparateKVLayer],
        q: Tensor,
        k: Tensor,
        given: AttentionInput,
    ) -> tuple[Tensor, Tensor | None]:
        """Softmax `[T, H, R, C]` and None; in fp32 unnormalised, and its sums `[T, H, R, 1]`.

        Dividing the results by the sums is less work, because they are smaller.
        """
        T, H, R, d = q.shape
        dtype = q.dtype if can_fuse(q) else torch.float32
        passages = [one.keys for one in kept]
        keys = self._lay_out(tile, "keys", dtype, self.opening[given.layer].keys, k, passages)
        heads, columns = keys.shape[1:3]
        logits = self._buffer("logits", (T, heads, H // heads * R, columns), dtype)
        scaled = (q.to(dtype) * given.scale).reshape(T, heads, -1, d)
        torch.matmul(scaled, keys.transpose(2, 3), out=logits)
        grown = logits.view(T, H, R, columns)
        self._masks.apply(grown, kept, given.window, tile.window_masks)
        if dtype != torch.float32:
            return grown.softmax(-1), None
        grown.sub_(grown.amax(-1, keepdim=True)).exp_()
        return grown, grown.sum(-1, keepdim=True)

    def _weighted_values(
        self,
        tile: _Tile,
        kept: Sequence[SeparateKVLayer],
        layer: int,
        grown: Tensor,
        v: Tensor,
        sums: Tensor | None,
    ) -> Tensor:
        """The values, weighted by the softmax `grown / sums`: `[T·R, H, d]`."""
        T, H, R, columns = grown.shape
        passages = [one.values for one in kept]
        opening = self.opening[layer].values
        values = self._lay_out(tile, "values", v.dtype, opening, v, passages)
        out = grown.to(v.dtype).view(T, values.shape[1], -1, columns) @ values
        out = out.view(T, H, R, -1)
        if sums is not None:
            out = (out / sums).to(v.dtype)
        return out.transpose(1, 2).reshape(T * R, H, -1)

    def _lay_out(
        self,
        tile: _Tile,
        name: str,
        dtype: torch.dtype,
        opening: Tensor,
        new: Tensor,
        passages: Sequence[Vectors],
    ) -> Tensor:
        """Opening, question and passages of one tile side by side: `[T, Hkv, C, d]`."""
        widths = tuple([one.shape[1] for one in passages])
        places = tile.places.get(name)
        if places is None or places.widths != widths:
            places = tile.places[name] = self._place(name, dtype, new, widths)
        places.fill(opening, new, passages)
        return places.whole

    def _place(
        self, name: str, dtype: torch.dtype, new: Tensor, widths: tuple[int, ...]
    ) -> _Places:
        """Memory for one tile's columns, and views of its parts."""
        T, heads, R, d = new.shape
        h, start = self._opening_tokens, self._opening_tokens + R
        whole = self._buffer(name, (T, heads, start + max(widths), d), dtype)
        passages = [whole[t, :, start : start + width] for t, width in enumerate(widths)]
        return _Places(widths, whole, whole[:, :, :h], whole[:, :, h:start], passages)

    def _buffer(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Memory that is reused from layer to layer and from tile to tile."""
        size = torch.Size(shape).numel()
        if (buffer := self._buffers.get(name)) is None or buffer.numel() < size:
            # zeros, not empty: padding gets no weight, and 0 times a NaN left there would be NaN
            buffer = self._buffers[name] = torch.zeros(size, dtype=dtype, device=self.device)
        return buffer[:size].view(shape)


def _question_shape(prompt: CachedPrompt) -> tuple[int, int, RowSpans]:
    """What prompts of one tile must have in common."""
    return prompt.question_tokens, prompt.first_row, prompt.sentences


def _tile_states(part: Tensor, tile: _Tile) -> Tensor:
    """The states of one tile's new tokens: `[heads, Nq, d]` to `[T, heads, R, d]`."""
    T, R = len(tile.prompts), tile.question_tokens
    new = part[:, tile.start : tile.start + T * R]
    return new.view(part.shape[0], T, R, -1).transpose(0, 1)


def _group_tile_rows(
    grown: Tensor, sums: Tensor | None, prompt: CachedPrompt, groups: tuple[RowGroup, ...]
) -> Tensor:
    """The softmax `grown / sums` of a prompt's rows, in row groups: `[T, H, R', C]` fp32."""
    rows = grown[:, :, prompt.first_row :]
    if sums is None:
        return group_rows_fp32(rows, groups, prompt.sentences)
    sums = sums[:, :, prompt.first_row :]
    if is_question_mean(groups, prompt.sentences):
        return (sums.reciprocal() / sums.shape[2]).transpose(2, 3) @ rows
    return group_rows(rows / sums, groups, prompt.sentences)


def _spread(weights: Tensor, layer: StoredKVLayer) -> Tensor:
    """Weights of a layer's columns, then padding, `[H, R', C]`, of its tokens."""
    own = weights[..., : count_columns(layer)]
    placement = placement_of(layer)
    return own if placement is None else placement.spread(own)


_NEVER_SEEN = 1 << 30  # a position that no token attends to


class TileMasks:
    """Masks the logits of tiles of cached prompts, made once where they are the same.

    Args:
        opening_tokens: of the template. device: of the model.
    """

    def __init__(self, opening_tokens: int, device: torch.device) -> None:
        self._opening, self._device = opening_tokens, device
        self._causal: dict[int, Tensor] = {}

    def apply(
        self,
        logits: Tensor,
        kept: Sequence[StoredKVLayer],
        window: int | None,
        window_masks: dict[int, Tensor],
    ) -> None:
        """Sets to -inf what a token must not attend to: later tokens, padding, outside a window.

        Args:
            logits: `[T, H, R, C]`, changed in place.
            kept: the layer of each of the T passages.
            window_masks: of this tile, by window; masks that every layer shares are added.
        """
        R, start = logits.shape[2], self._opening + logits.shape[2]
        if window is not None:
            if window not in window_masks:
                window_masks[window] = self._window_mask(kept, R, window)
            group = logits.shape[1] // window_masks[window].shape[1]
            logits.add_(window_masks[window].repeat_interleave(group, 1))
            if any(placement_of(layer) for layer in kept):
                del window_masks[window]  # other layers have other columns
        else:
            logits[..., self._opening : start].masked_fill_(self._causal_mask(R), -torch.inf)
        for prompt, layer in zip(logits, kept, strict=True):
            stop = start + count_columns(layer)
            if window is None and stop < prompt.shape[-1]:
                prompt[..., stop:] = -torch.inf
            if (placement := placement_of(layer)) is not None:
                group = len(prompt) // len(placement.bias)
                prompt[..., start:stop] += placement.bias.repeat_interleave(group, 0)[:, None]

    def _window_mask(self, kept: Sequence[StoredKVLayer], R: int, window: int) -> Tensor:
        """0 where a token sees a column within a window, else -inf: `[T, 1 or Hkv, R, C]`."""
        h, columns = self._opening, max(count_columns(layer) for layer in kept)
        masks = []
        for layer in kept:
            placement, length = placement_of(layer), count_tokens([layer])
            own = torch.arange(length)[None] if placement is None else placement.positions.cpu()
            padding = own.new_full((len(own), columns - own.shape[1]), _NEVER_SEEN)
            new = h + length + torch.arange(R)
            before = torch.cat((torch.arange(h), new)).expand(len(own), -1)
            column, row = torch.cat((before, h + own, padding), 1)[:, None], new[:, None]
            hidden = (column > row) | (column <= row - window)
            masks.append(torch.zeros(hidden.shape).masked_fill_(hidden, -torch.inf))
        heads = max(map(len, masks))
        return torch.stack([mask.expand(heads, -1, -1) for mask in masks]).to(self._device)

    def _causal_mask(self, R: int) -> Tensor:
        """True where the column's token comes after the row's: `[R, R]`."""
        if R not in self._causal:
            self._causal[R] = torch.ones(R, R, dtype=torch.bool, device=self._device).triu(1)
        return self._causal[R]
