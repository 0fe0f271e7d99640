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
from tamis.probes.devices import copy_to
from tamis.probes.lru import LruCache

RUN = 8
"""Directions share their number of bits in runs of so many, so that codes fill whole bytes."""
MAX_BITS = 7
"""Of a code, so that codes are numbers of int8."""
ANGLE_BYTES = 64 << 20
"""Of cosines and sines that are kept of the latest batches, on the device where they are used."""
_BYTES = torch.arange(256, dtype=torch.uint8)
_SHIFTS = torch.arange(RUN, dtype=torch.uint8)
_BITS_OF_BYTE = _BYTES[:, None] >> _SHIFTS & 1
"""The 8 bits of each byte, the lowest first: `[256, 8]`."""


class PassageRotation:
    """Rotation of keys by their places in their passages (RoPE, arXiv 2104.09864, §3.4).

    Args:
        rates: `[d/2]` fp32, radians a place of each pair of channels.
    """

    def __init__(self, rates: Tensor) -> None:
        self.rates = rates
        self._angles = LruCache[tuple[Tensor, Tensor]](ANGLE_BYTES, sys.maxsize)

    def apply(self, keys: Tensor, lengths: Sequence[int]) -> Tensor:
        """Keys `[N, Hkv, d]` fp32 of passages one after the other, rotated to their places."""
        return self._turn(keys, *self._cos_sin(lengths, keys.device))

    def remove(self, keys: Tensor, lengths: Sequence[int]) -> Tensor:
        """The inverse of `apply`."""
        cos, sin = self._cos_sin(lengths, keys.device)
        return self._turn(keys, cos, -sin)

    @staticmethod
    def _turn(keys: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        half = cos.shape[-1]
        a, b = keys[..., :half], keys[..., half:]
        turned = torch.empty_like(keys)
        torch.mul(a, cos, out=turned[..., :half]).addcmul_(b, sin, value=-1)
        torch.mul(b, cos, out=turned[..., half:]).addcmul_(a, sin)
        return turned

    def _cos_sin(self, lengths: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
        """Cosine and sine of each token's angles, `[N, 1, d/2]`; layers ask for the same ones."""

        def compute() -> tuple[Tensor, Tensor]:
            numbers = np.concatenate([np.arange(n, dtype=np.float32) for n in lengths])
            places = copy_to(torch.from_numpy(numbers), device)
            angles = places[:, None, None] * self.rates.to(device)
            return angles.cos(), angles.sin()

        key = tuple(lengths), device
        return self._angles.get(key, compute, lambda pair: pair[0].nbytes + pair[1].nbytes)

    @property
    def nbytes(self) -> int:
        """Bytes of the cosines and sines that are kept."""
        return self._angles.total_cost


class _Encoder(NamedTuple):
    """What becomes of vectors, on the device where they are.

    Attributes:
        mean, analysis, lows, steps: of the code. most: `[K]`, the highest code of each direction.
        columns, shifts: of each bit of a token, in the order of planes, the direction that it is
            of, int64, and its place there, uint8. in_byte: its place in its byte, `[RUN]` uint8.
    """

    mean: Tensor
    analysis: Tensor
    lows: Tensor
    steps: Tensor
    most: Tensor
    columns: Tensor
    shifts: Tensor
    in_byte: Tensor


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
    _encoders: dict[torch.device, _Encoder] = field(default_factory=dict, init=False)

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
        packed = self.encode_joined(layer.keys, layer.values, [layer.keys.shape[1]])
        return CodedKVLayer(packed, self)

    def encode_joined(self, keys: Tensor, values: Tensor, lengths: Sequence[int]) -> Tensor:
        """Keys and values `[Hkv, N, d]` of passages end to end, coded where they are: `[N, B]`."""
        own = self._encoder(keys.device)
        parts = [self.rotation.remove(keys.float().transpose(0, 1), lengths)]
        if self.has_values:
            parts.append(values.float().transpose(0, 1))
        vectors = torch.cat([part.flatten(1) for part in parts], 1)
        along = (vectors - own.mean) @ own.analysis
        codes = ((along - own.lows) / own.steps).round_()
        codes = torch.minimum(codes.clamp_(min=0), own.most).to(torch.uint8)
        bits = codes.index_select(1, own.columns) >> own.shifts & 1
        shifted = bits.view(len(codes), self.token_bytes, RUN) << own.in_byte
        return shifted.sum(2, dtype=torch.uint8)

    def _encoder(self, device: torch.device) -> _Encoder:
        """What `encode_joined` needs on a device."""
        if device not in self._encoders:
            planes = list(enumerate(self.planes))
            columns = torch.cat([torch.arange(n) for _, n in planes])
            shifts = torch.cat([torch.full((n,), b, dtype=torch.uint8) for b, n in planes])
            code = (self.mean, self.analysis, self.lows, self.steps, 2.0**self.bits - 1)
            parts = (part.to(device) for part in (*code, columns, shifts, _SHIFTS))
            self._encoders[device] = _Encoder(*parts)
        return self._encoders[device]

    def decode(self, packed: Sequence[Tensor], dtype: torch.dtype) -> list[KVLayer]:
        """Keys and values of several passages: each `[N, B]` to `[Hkv, N, d]`, in one product.

        Values that are not coded are `[Hkv, 0, d]`.
        """
        lengths = [len(one) for one in packed]
        keys, values = self.decode_joined(packed, dtype)
        sizes = lengths if self.has_values else [0] * len(lengths)
        pairs = zip(torch.split(keys, lengths, 1), torch.split(values, sizes, 1), strict=True)
        return [KVLayer(*pair) for pair in pairs]

    def decode_joined(self, packed: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Keys and values of several passages end to end, each `[Hkv, N, d]`, as for `decode`."""
        lengths = [len(one) for one in packed]
        rows = torch.cat(list(packed)) if len(packed) > 1 else packed[0]
        # int8 is multiplied at twice the rate of bf16
        in_int8 = dtype == torch.bfloat16 and multiplies_int8(rows.device)
        parts = 2 if self.has_values else 1
        vectors = self._synthesize(rows, in_int8)
        vectors = vectors.view(len(rows), parts * self.heads, self.size)
        keys = self.rotation.apply(vectors[:, : self.heads], lengths)
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
            self._decoders[device, in_int8] = _Decoder(*(part.to(device) for part in parts))
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
