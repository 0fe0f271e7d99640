"""Vectors in 1 to 8 bits a component, packed without gaps: for keys and values of passages.

    codes   flat per head, M·d components; a width of 3 bits is a plane of 2 bits and one of 1
    plane   8/w equal parts side by side in one byte: byte j holds components j, j + n, j + 2n, ...
            so that unpacking shifts long contiguous runs

Each vector component is `low + code · step`. Keys have outlying channels, so their steps are per
channel, over all tokens of the passage; values have none, so theirs are per token (KIVI, arXiv
2402.02750, §3). Departures: a passage is one group; in few bits a range is no wider than the one of
least squared error for normally distributed components (Max, 1960).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Axis = Literal["channel", "token"]
"""What has a range of its own: each channel over all tokens, or each token over all channels."""

_AXES: dict[Axis, int] = {"channel": -2, "token": -1}
_NORMAL_RANGE = {1: 0.798, 2: 1.494, 3: 2.051, 4: 2.514}
"""Half the range of the best uniform codes of a standard normal component, by bits."""
_PLANES = {bits: tuple(w for w in (8, 4, 2, 1) if bits & w) for bits in range(1, 9)}
_TINY = 1e-7
CHUNK_ELEMENTS = 64 << 20
"""Components of several passages and layers that are computed at once, padding included."""


class TokenPlaces(NamedTuple):
    """Where N tokens of P passages end to end are, as index tensors on their device.

    Attributes:
        lengths: `[P]`, the tokens of each passage.
        passages, places: `[N]`, the passage of each token, and its place there.
    """

    lengths: Tensor
    passages: Tensor
    places: Tensor

    def packed_order(self, parts: int) -> Tensor:
        """Where the codes of so many tokens to a byte are.

        A passage of n tokens has n rows of bytes, each of a token's codes in `parts` pieces, and
        part k of row j is piece `k · n + j` of the passage.

        Returns:
            `[parts, N]`, of each part of each row of bytes, its piece among those of all tokens.
        """
        own = self.lengths[self.passages]
        first = (torch.arange(len(own), device=own.device) - self.places) * parts
        part = torch.arange(parts, device=own.device)[:, None]
        return first + self.places + part * own

    def token_order(self, parts: int) -> Tensor:
        """The inverse of `packed_order`: of each piece `[N · parts]`, which part of a row it is."""
        piece = self.places[:, None] * parts + torch.arange(parts, device=self.places.device)
        own = self.lengths[self.passages][:, None]
        row = torch.arange(len(own), device=own.device) - self.places
        return (piece // own * len(own) + row[:, None] + piece % own).flatten()


@dataclass(frozen=True, slots=True)
class LowBitVectors:
    """Vectors `[H, M, d]` in few bits.

    Attributes:
        packed: `[H, B]` uint8, the planes of a head one after the other.
        lows, steps: fp16, `[H, 1, d]` or `[H, M, 1]`.
        bits: of a component.
        shape: `[H, M, d]`.
    """

    packed: Tensor
    lows: Tensor
    steps: Tensor
    bits: int
    shape: torch.Size

    @classmethod
    def quantize(cls, vectors: Tensor, bits: int, axis: Axis) -> LowBitVectors:
        """Rounds vectors `[H, M, d]` to `2^bits` levels of each channel, or of each token."""
        exact = vectors.float()
        low, step = _ranges(exact, bits, _AXES[axis])
        codes = ((exact - low.float()) / step.float().clamp_min(_TINY)).round_()
        codes = codes.clamp_(0, 2**bits - 1).to(torch.uint8)
        return cls(pack_codes(codes.flatten(1), bits), low, step, bits, vectors.shape)

    @classmethod
    def quantize_passages(
        cls, vectors: Tensor, bits: int, tokens: TokenPlaces, sizes: Sequence[int]
    ) -> list[list[LowBitVectors]]:
        """What `quantize` makes of each passage by channel, in a few calls for all of them.

        Args:
            vectors: `[L, H, N, d]`, the passages end to end. bits: as `is_joinable` has them.
            tokens: where they are. sizes: the tokens of each passage.

        Returns:
            For each passage, its L vectors.
        """
        L, H, N, d = vectors.shape
        exact = vectors.float()
        ranges = _passage_ranges(exact, bits, tokens, sizes)
        low, step = ranges.index_select(3, tokens.passages).float().unbind(0)
        codes = (exact - low).div_(step.clamp_min_(_TINY))
        codes = codes.round_().clamp_(0, 2**bits - 1).to(torch.uint8)
        parts = 8 // bits
        pieces = codes.view(L, H, N * parts, d // parts)
        pieces = pieces.index_select(2, tokens.packed_order(parts).flatten())
        shifts = _shifts(bits, pieces.device)
        packed = (pieces.view(L, H, parts, N, -1) << shifts).sum(2, dtype=torch.uint8)
        codes_of = split_copy(packed, sizes, 2)
        ranges_of = split_copy(ranges, [1] * len(sizes), 3)
        return [
            [
                cls(one.flatten(1), lows, steps, bits, torch.Size((H, n, d)))
                for one, (lows, steps) in zip(own.unbind(0), own_ranges.unbind(1), strict=True)
            ]
            for own, own_ranges, n in zip(codes_of, ranges_of, sizes, strict=True)
        ]

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.packed.nbytes + self.lows.nbytes + self.steps.nbytes

    def dequantize_into(self, target: Tensor) -> None:
        """Writes the vectors, in the dtype of the target."""
        _, tokens, size = self.shape
        codes = unpack_codes(self.packed, self.bits, tokens * size).view(self.shape)
        target.copy_(codes.float().mul_(self.steps).add_(self.lows))


class JoinedLowBits:
    """Vectors of P passages and several layers, joined once, to be decoded layer by layer.

    Args:
        groups: for each layer, those of every passage; all as `is_joinable` has them.
        tokens: where the passages are, end to end.
    """

    def __init__(self, groups: Sequence[Sequence[LowBitVectors]], tokens: TokenPlaces) -> None:
        every = [one for group in groups for one in group]
        heads, _, self._size = every[0].shape
        self.bits, self._tokens = every[0].bits, tokens
        shape = (heads, len(groups), len(tokens.places), self._size * self.bits // 8)
        self._packed = torch.cat([one.packed for one in every], 1).view(shape)
        ranges = [one.lows for one in every] + [one.steps for one in every]
        joined = torch.cat(ranges, 1).float()
        self._ranges = joined.view(heads, 2, len(groups), len(groups[0]), self._size)
        self._order = tokens.token_order(8 // self.bits)

    def decode(self, start: int, stop: int) -> Tensor:
        """The vectors of some of the layers: `[H, stop - start, N, d]` fp32."""
        packed = self._packed[:, start:stop, None]
        codes = packed >> _shifts(self.bits, packed.device) & 2**self.bits - 1
        shape = (len(codes), stop - start, len(self._order), codes.shape[-1])
        codes = codes.view(shape).index_select(2, self._order)
        ranges = self._ranges[:, :, start:stop].index_select(3, self._tokens.passages)
        lows, steps = ranges.unbind(1)
        return torch.addcmul(lows, codes.view(lows.shape), steps)


def split_copy(together: Tensor, sizes: Sequence[int], axis: int) -> list[Tensor]:
    """A tensor cut into tensors with memory of their own, in one call."""
    shape = list(together.shape)
    each = [together.new_empty(*shape[:axis], n, *shape[axis + 1 :]) for n in sizes]
    torch.split_with_sizes_copy(together, list(sizes), axis, out=each)
    return each


def is_joinable(bits: int, size: int) -> bool:
    """Whether vectors of a size have a whole number of bytes each, in one plane."""
    return _PLANES[bits] == (bits,) and size * bits % 8 == 0


def pack_codes(codes: Tensor, bits: int) -> Tensor:
    """Codes `[H, n]` uint8, below `2^bits`, to `[H, B]` bytes."""
    planes, shift = [], 0
    for width in _PLANES[bits]:
        parts = 8 // width
        each = -(-codes.shape[1] // parts)
        plane = (codes >> shift) & (2**width - 1)
        plane = torch.nn.functional.pad(plane, (0, each * parts - plane.shape[1]))
        byte = torch.zeros_like(plane[:, :each])
        for p, part in enumerate(torch.split(plane, each, 1) if each else ()):
            byte |= part << (p * width)
        planes.append(byte)
        shift += width
    return torch.cat(planes, 1)


def unpack_codes(packed: Tensor, bits: int, components: int) -> Tensor:
    """The inverse of `pack_codes`: `[H, B]` to codes `[H, components]` uint8."""
    found: Tensor | None = None
    start = shift = 0
    for width in _PLANES[bits]:
        parts = 8 // width
        each = -(-components // parts)
        byte = packed[:, start : start + each]
        plane = torch.empty(len(packed), each * parts, dtype=torch.uint8, device=packed.device)
        for p in range(parts):
            piece = plane[:, p * each : (p + 1) * each]
            torch.bitwise_right_shift(byte, p * width, out=piece)
            piece.bitwise_and_(2**width - 1)
        if found is None:
            found = plane[:, :components].bitwise_left_shift_(shift)
        else:
            found = found | plane[:, :components].bitwise_left_shift_(shift)
        start, shift = start + each, shift + width
    assert found is not None
    return found


def _ranges(exact: Tensor, bits: int, axis: int) -> tuple[Tensor, Tensor]:
    """The lowest level and the step of each channel or token, fp16."""
    levels = 2**bits - 1
    if not exact.numel():
        empty = exact.sum(axis, keepdim=True).half()
        return empty, empty
    low, high = exact.amin(axis, keepdim=True), exact.amax(axis, keepdim=True)
    if bits in _NORMAL_RANGE and exact.shape[axis] > 1:
        middle, spread = exact.mean(axis, keepdim=True), exact.std(axis, keepdim=True)
        half = _NORMAL_RANGE[bits] * spread
        low, high = torch.maximum(low, middle - half), torch.minimum(high, middle + half)
    return low.half(), ((high - low) / levels).half()


def _shifts(bits: int, device: torch.device) -> Tensor:
    """By how much each part of a byte is shifted: `[8 / bits, 1, 1]` uint8."""
    return torch.arange(0, 8, bits, dtype=torch.uint8, device=device)[:, None, None]


def _passage_ranges(exact: Tensor, bits: int, tokens: TokenPlaces, sizes: Sequence[int]) -> Tensor:
    """`_ranges` of each channel in each passage, `[2, L, H, P, d]` fp16, of `[L, H, N, d]` fp32.

    Passages are padded within chunks, the longest first, by their own last tokens.
    """
    L, H, N, d = exact.shape
    lengths, order = tokens.lengths.sort(descending=True)
    starts = (tokens.lengths.cumsum(0) - tokens.lengths)[order]
    widths, begin = sorted(sizes, reverse=True), 0
    found: list[Tensor] = []
    while begin < len(widths):
        stop = begin + max(1, CHUNK_ELEMENTS // (max(1, widths[begin]) * L * H * d))
        at = torch.arange(max(1, widths[begin]), device=exact.device)
        own = lengths[begin:stop, None]
        last = own - 1
        padded = exact[:, :, (starts[begin:stop, None] + at.minimum(last)).clamp_(0, N - 1)]
        low, high = padded.amin(3), padded.amax(3)
        if bits in _NORMAL_RANGE:
            is_own = (at < own)[:, None]
            mean = is_own / own[:, None] @ padded
            squares = is_own / last.clamp_min(1)[:, None] @ padded.sub_(mean).square_()
            half, mean = squares.squeeze(3).sqrt_() * _NORMAL_RANGE[bits], mean.squeeze(3)
            low, high = torch.maximum(low, mean - half), torch.minimum(high, mean + half)
        found.append(torch.stack((low, (high - low) / (2**bits - 1))).half())
        begin = stop
    return torch.cat(found, 3).index_select(3, order.argsort())
