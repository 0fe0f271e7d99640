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


class TokenPlaces(NamedTuple):
    """Where N tokens of P passages end to end are, as index tensors on their device.

    Attributes:
        lengths: `[P]`, the tokens of each passage.
        passages, places: `[N]`, the passage of each token, and its place there.
    """

    lengths: Tensor
    passages: Tensor
    places: Tensor

    def token_order(self, parts: int) -> Tensor:
        """Where each piece of the tokens' codes is, `[N · parts]`, so many pieces to a token.

        A passage of n tokens has n rows of bytes: part k of row j is piece `k · n + j`.
        """
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
