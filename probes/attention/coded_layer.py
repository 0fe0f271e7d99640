"""Keys and values of a layer, coded together in a few bits: transform coding.

    keys without rotation, values  [N, C] ─ analysis ─► [N, K] ─ rounded ─► packed [N, B] bytes
    packed [N, B] ─► codes [N, K] ─ synthesis ─► [N, C] ─ rotation ─► keys, values

All heads' keys and values of a token come from one hidden state, so they predict each other well:
most of what a question sees of them lies along few of the principal directions of all C = 2·Hkv·d
of them together. Directions are those of least error where it counts: of keys, in
the logits of questions; of values, in what the output projection makes of them. Each is rounded to
as many levels as its variance is worth (transform coding of KV caches: KVTC, arXiv 2511.01815, §3;
keys before rotation: KVQuant, arXiv 2401.18079, §3.2). Departures: one transform a layer, not one
for all layers; a metric of queries and of the output projection; codes of fixed length in place of
an entropy coder, so that every token takes the same bytes, and is decoded by shifts and a product.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tamis.probes.attention.linear_kernels import multiplies_int8
from tamis.probes.attention.recorder import KVLayer
from tamis.probes.attention.rounding.int8 import Int8Vectors
from tamis.probes.devices import copy_all, copy_to
from tamis.probes.lru import LruCache

RUN = 8
"""Directions share their number of bits in runs of so many, so that codes fill whole bytes."""
MAX_BITS = 7
"""A code has at most so many, so that codes are numbers of int8."""
ANGLE_BYTES = 64 << 20
"""Cosines and sines of the latest batches take so much, on the device where they are used."""
UNPACKED = 16 << 20
"""Bytes of planes of several layers that are looked up at once, on a device."""
_BYTES = torch.arange(256, dtype=torch.uint8)
_BITS_OF_BYTE = _BYTES[:, None] >> torch.arange(RUN, dtype=torch.uint8) & 1
"""The 8 bits of each byte, the lowest first: `[256, 8]`."""
_LOWEST_BITS = 0x0101010101010101
_TO_HIGHEST_BYTE = 0x0102040810204080
"""Times 8 bytes of 0 or 1 in one int64, its highest byte has them as its bits, in their order."""


class PassageRotation:
    """Rotation of keys by their places in their passages (RoPE, arXiv 2104.09864, §3.4).

    Args:
        rates: `[d/2]` fp32, radians a place of each pair of channels.
    """

    def __init__(self, rates: Tensor) -> None:
        self.rates = rates
        self._rates: dict[torch.device, Tensor] = {}
        self._angles = LruCache[tuple[Tensor, Tensor]](ANGLE_BYTES, sys.maxsize)

    def apply(self, keys: Tensor, lengths: Sequence[int], places: Tensor | None = None) -> Tensor:
        """Keys `[N, Hkv, d]` fp32 of passages one after the other, rotated to their places.

        Args:
            places: of the tokens, `[N]`, where their device has them; None to copy them there.
        """
        return self._turn(keys, *self._cos_sin(lengths, keys.device, places))

    def remove(self, keys: Tensor, lengths: Sequence[int], places: Tensor | None = None) -> Tensor:
        """The inverse of `apply`."""
        cos, sin = self._cos_sin(lengths, keys.device, places)
        return self._turn(keys, cos, -sin)

    @staticmethod
    def _turn(keys: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        pairs = keys.view(*keys.shape[:-1], 2, cos.shape[-1])
        turned: Tensor = pairs * cos[..., None, :]
        turned[..., 0, :].addcmul_(pairs[..., 1, :], sin, value=-1)
        turned[..., 1, :].addcmul_(pairs[..., 0, :], sin)
        return turned.flatten(-2)

    def _cos_sin(
        self, lengths: Sequence[int], device: torch.device, places: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Cosine and sine of each token's angles, `[N, 1, d/2]`; layers ask for the same ones."""

        def compute() -> tuple[Tensor, Tensor]:
            at = places
            if at is None:
                numbers = np.concatenate([np.arange(n, dtype=np.float32) for n in lengths])
                at = copy_to(torch.from_numpy(numbers), device)
            if device not in self._rates:
                self._rates[device] = copy_to(self.rates, device)
            angles = at[:, None, None] * self._rates[device]
            return angles.cos(), angles.sin()

        key = tuple(lengths), device
        return self._angles.get(key, compute, lambda pair: pair[0].nbytes + pair[1].nbytes)

    @property
    def nbytes(self) -> int:
        """Bytes of the cosines and sines that are kept."""
        return self._angles.total_cost


class _Encoder(NamedTuple):
    """What becomes of vectors of some layers side by side, on the device where they are.

    Attributes:
        mean, lows, steps: of the codes. most: `[K]`, the highest code of each direction.
        runs, shifts: of each byte of a token, in the order of layers and planes, the run of
            directions whose bits it has, and the place of these bits in their codes, int64.
    """

    mean: Tensor
    lows: Tensor
    steps: Tensor
    most: Tensor
    runs: Tensor
    shifts: Tensor


class _Unpacker(NamedTuple):
    """What bytes of some layers side by side stand for.

    Attributes:
        table: `[256 · (planes + 1)]` int64, as a decoder has it, and zeros behind it.
        columns: `[planes, runs]`, the byte that has a plane of a run of directions.
        places: `[planes, runs]` int32, where the table of that plane begins; of a plane that a run
            does not have, where the zeros are.
    """

    table: Tensor
    columns: Tensor
    places: Tensor


class _Decoder(NamedTuple):
    """What bytes stand for, and how codes become vectors.

    Attributes:
        table: `[256 · planes]` int64, the 8 codes of each byte in each bit plane, as one number.
        places: `[B]` int32, where the table of a byte's plane begins.
        synthesis: `[K, C]` in steps; in int8 to be multiplied by the scale `[C]` fp32.
        zero: `[C]` fp32, the vector of codes of 0.
    """

    table: Tensor
    places: Tensor
    synthesis: Tensor
    scale: Tensor
    zero: Tensor


@dataclass(frozen=True, eq=False)
class LayerCode:
    """How a layer is coded.

    Attributes:
        mean: `[C]` fp32, of the keys of all heads without rotation, then of their values.
        analysis: `[C, K]` fp32, from differences to the mean to directions.
        synthesis: `[K, C]` fp32, back.
        lows, steps: `[K]` fp32, the lowest level of each direction, and between two levels.
        bits: `[K]` int64 of a code, 1 to `MAX_BITS`, descending, equal in runs of `RUN`.
        rotation: of keys by their places, the same for all layers.
        heads, size: of keys, Hkv and d. has_values: whether values are coded, too.
    """

    mean: Tensor
    analysis: Tensor
    synthesis: Tensor
    lows: Tensor
    steps: Tensor
    bits: Tensor
    rotation: PassageRotation
    heads: int
    size: int
    has_values: bool
    _decoders: dict[tuple[torch.device, bool], _Decoder] = field(default_factory=dict, init=False)
    _encoders: dict[tuple[torch.device, int], tuple[_Encoder, list[Tensor]]] = field(
        default_factory=dict, init=False
    )
    _unpackers: dict[tuple[torch.device, int], tuple[_Unpacker, list[Tensor]]] = field(
        default_factory=dict, init=False
    )

    @cached_property
    def planes(self) -> list[int]:
        """How many directions have a first bit, a second one, and so on: each is a bit plane."""
        return [int((self.bits > b).sum()) for b in range(int(self.bits.max()))]

    @cached_property
    def token_bytes(self) -> int:
        """The bytes B of a token."""
        return sum(self.planes) // RUN

    def encode(self, layer: KVLayer) -> CodedKVLayer:
        """A passage's keys and values, from its first token on; values that are not coded go."""
        packed = encode_layers([self], [layer.keys, layer.values], [layer.keys.shape[1]])
        return CodedKVLayer(packed, self)

    def decode(self, packed: Sequence[Tensor], dtype: torch.dtype) -> list[KVLayer]:
        """Keys and values of several passages: each `[N, B]` to `[Hkv, N, d]`, in one product.

        Values that are not coded are `[Hkv, 0, d]`.
        """
        lengths = [len(one) for one in packed]
        rows = torch.cat(list(packed)) if len(packed) > 1 else packed[0]
        # int8 is multiplied at twice the rate of bf16
        in_int8 = dtype == torch.bfloat16 and multiplies_int8(rows.device)
        keys, values = self.rotate(self._synthesize(rows, in_int8), lengths, dtype)
        sizes = lengths if self.has_values else [0] * len(lengths)
        pairs = zip(torch.split(keys, lengths, 1), torch.split(values, sizes, 1), strict=True)
        return [KVLayer(*pair) for pair in pairs]

    def rotate(
        self,
        vectors: Tensor,
        lengths: Sequence[int],
        dtype: torch.dtype,
        places: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Keys and values, each `[Hkv, N, d]`, of decoded vectors `[N, C]` of passages."""
        parts = 2 if self.has_values else 1
        vectors = vectors.view(len(vectors), parts * self.heads, self.size)
        keys = self.rotation.apply(vectors[:, : self.heads], lengths, places)
        values = vectors[:, self.heads :] if self.has_values else keys[:0]
        return keys.to(dtype).transpose(0, 1), values.to(dtype).transpose(0, 1)

    def _synthesize(self, rows: Tensor, in_int8: bool) -> Tensor:
        """The vectors `[N, C]` fp32 of packed rows `[N, B]`."""
        own = self._decoder(rows.device, in_int8)
        found = own.table.index_select(0, (rows + own.places).flatten())  # 8 codes as one int64
        bits = found.view(torch.uint8).view(len(rows), sum(self.planes))
        codes, *others = torch.split(bits, self.planes, 1)
        for plane in others:
            codes[:, : plane.shape[1]] += plane
        if in_int8:
            sums: Tensor = torch._int_mm(codes.view(torch.int8), own.synthesis)
            return torch.addcmul(own.zero, sums, own.scale)
        return torch.addmm(own.zero, codes.float(), own.synthesis)

    def _decoder(self, device: torch.device, in_int8: bool) -> _Decoder:
        """What `_synthesize` needs on a device."""
        if (device, in_int8) not in self._decoders:
            table = torch.cat([_BITS_OF_BYTE << b for b in range(len(self.planes))])
            places = [torch.full((n // RUN,), 256 * b) for b, n in enumerate(self.planes)]
            in_steps, half = self.steps[:, None] * self.synthesis, (2.0**self.bits - 1) / 2
            scale = torch.ones(len(self.mean))
            if in_int8:
                columns = Int8Vectors.quantize(in_steps.T)
                in_steps, scale = columns.codes.T.contiguous(), columns.scales[:, 0]
            # exact in the middle of all levels, whatever was rounded
            middle = self.mean + (self.lows + self.steps * half) @ self.synthesis
            zero = middle - half @ in_steps.float() * scale
            parts = table.view(torch.int64)[:, 0], torch.cat(places).int(), in_steps, scale, zero
            self._decoders[device, in_int8] = _Decoder(*copy_all(parts, device))
        return self._decoders[device, in_int8]


@dataclass(frozen=True, slots=True)
class CodedKVLayer:
    """Keys and values of one layer, coded together.

    Attributes:
        packed: `[N, B]` uint8, a row a token.
        code: how to read them.
    """

    packed: Tensor
    code: LayerCode

    @property
    def tokens(self) -> int:
        """The number of tokens N."""
        return len(self.packed)

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.packed.nbytes


def decode_layers(layers: Sequence[CodedKVLayer], dtype: torch.dtype) -> list[KVLayer]:
    """One layer of several passages, decoded together where their code is the same."""
    found: list[KVLayer] = []
    start = 0
    while start < len(layers):
        code, stop = layers[start].code, start + 1
        while stop < len(layers) and layers[stop].code is code:
            stop += 1
        found += code.decode([one.packed for one in layers[start:stop]], dtype)
        start = stop
    return found


def encode_layers(
    codes: Sequence[LayerCode],
    parts: Sequence[Tensor],
    lengths: Sequence[int],
    places: Tensor | None = None,
) -> Tensor:
    """Passages end to end, coded where they are, all layers side by side: `[N, sum of B]`.

    Args:
        codes: of consecutive layers of one codec; only the last may be without values.
        parts: keys and values of each layer in turn, `[Hkv, N, d]`.
        lengths: of the passages. places: as `PassageRotation.apply` has them.
    """
    own, analyses = _encoder(codes, parts[0].device)
    parts = parts[: len(parts) if codes[-1].has_values else -1]
    whole = torch.cat([part.transpose(0, 1) for part in parts], 1).float()
    keys = whole.view(len(whole), len(parts), codes[0].heads, codes[0].size)[:, ::2]
    straight = codes[0].rotation.remove(keys.flatten(1, 2), lengths, places)
    keys.copy_(straight.view(keys.shape))
    centred = whole.flatten(1).sub_(own.mean)
    vectors = torch.split(centred, [len(code.mean) for code in codes], 1)
    along = torch.cat([each @ one for each, one in zip(vectors, analyses, strict=True)], 1)
    numbers = along.sub_(own.lows).div_(own.steps).round_()
    numbers = torch.minimum(numbers.clamp_(min=0), own.most).to(torch.uint8)
    codes_of_runs = numbers.view(torch.int64).index_select(1, own.runs)  # 8 codes as one number
    bits = codes_of_runs.bitwise_right_shift_(own.shifts).bitwise_and_(_LOWEST_BITS)
    return bits.mul_(_TO_HIGHEST_BYTE).bitwise_right_shift_(56).to(torch.uint8)


def _encoder(codes: Sequence[LayerCode], device: torch.device) -> tuple[_Encoder, list[Tensor]]:
    """What `encode_layers` needs on a device, in one copy; the analyses of the layers last."""
    kept, key = codes[0]._encoders, (device, len(codes))
    if key not in kept:
        runs, shifts, first = [], [], 0
        for code in codes:
            runs += [torch.arange(first, first + n // RUN) for n in code.planes]
            shifts += [torch.full((n // RUN,), b) for b, n in enumerate(code.planes)]
            first += len(code.bits) // RUN
        joined = [
            torch.cat([getattr(c, name) for c in codes]) for name in ("mean", "lows", "steps")
        ]
        most = torch.cat([2.0**code.bits - 1 for code in codes])
        parts = [*joined, most, torch.cat(runs), torch.cat(shifts)]
        sent = copy_all([*parts, *(code.analysis for code in codes)], device)
        kept[key] = _Encoder(*sent[: len(parts)]), sent[len(parts) :]
    return kept[key]


class JoinedCodes:
    """Coded layers of several passages, decoded layer by layer for all of them together.

    Args:
        codes: of consecutive layers of one codec.
        layers: for each layer, what is packed of every passage, `[n, B]`.
        places: of the tokens of all passages end to end, on their device.
    """

    def __init__(
        self, codes: Sequence[LayerCode], layers: Sequence[Sequence[Tensor]], places: Tensor
    ) -> None:
        self._codes, self._layers, self._places = codes, layers, places
        self._lengths = [len(one) for one in layers[0]]
        self._first = 0  # of the layers that are unpacked
        self._numbers: list[Tensor] = []
        self._own, self._linear = _unpacker(codes, places.device)

    def decode(self, layer: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Keys and values of all passages end to end: each `[Hkv, N, d]`."""
        if not 0 <= layer - self._first < len(self._numbers):
            self._first, self._numbers = layer, self._unpack(layer)
        zero, synthesis = self._linear[2 * layer : 2 * layer + 2]
        vectors = torch.addmm(zero, self._numbers[layer - self._first], synthesis)
        return self._codes[layer].rotate(vectors, self._lengths, dtype, self._places)

    def _unpack(self, first: int) -> list[Tensor]:
        """The codes `[N, K]` fp32 of a layer and of as many after it as memory allows."""
        runs = [len(code.bits) // RUN for code in self._codes]
        planes, tokens = len(self._own.columns), len(self._places)
        stop = first + 1
        while stop < len(runs) and sum(runs[first : stop + 1]) * planes * tokens <= UNPACKED:
            stop += 1
        before = sum(code.token_bytes for code in self._codes[:first])
        which = slice(sum(runs[:first]), sum(runs[:stop]))
        columns = (self._own.columns[:, which] - before).flatten()
        rows = torch.cat([torch.cat(list(own)) for own in self._layers[first:stop]], 1)
        at = rows.index_select(1, columns) + self._own.places[:, which].flatten()
        found = self._own.table.index_select(0, at.flatten()).view(tokens, planes, -1).sum(1)
        numbers = found.view(torch.uint8).float()
        return list(torch.split(numbers, [RUN * n for n in runs[first:stop]], 1))


def _unpacker(codes: Sequence[LayerCode], device: torch.device) -> tuple[_Unpacker, list[Tensor]]:
    """What `JoinedCodes` needs on a device, in one copy; last zero and synthesis of each layer."""
    kept, key = codes[0]._unpackers, (device, len(codes))
    if key not in kept:
        planes = max(len(code.planes) for code in codes)
        table = torch.cat([*(_BITS_OF_BYTE << b for b in range(planes)), 0 * _BITS_OF_BYTE])
        columns, places, first = [], [], 0
        for code in codes:
            own = torch.full((planes, len(code.bits) // RUN), first)  # any byte is looked up as 0
            where = torch.full(own.shape, 256 * planes, dtype=torch.int32)
            for b, n in enumerate(code.planes):
                own[b, : n // RUN] = torch.arange(first, first + n // RUN)
                where[b, : n // RUN] = 256 * b
                first += n // RUN
            columns.append(own)
            places.append(where)
        parts = [table.view(torch.int64)[:, 0], torch.cat(columns, 1), torch.cat(places, 1)]
        linear = [code._decoder(torch.device("cpu"), False) for code in codes]
        sent = copy_all([*parts, *(one for d in linear for one in (d.zero, d.synthesis))], device)
        kept[key] = _Unpacker(*sent[:3]), sent[3:]
    return kept[key]
