"""The codec of a model: how each of its first layers is coded, fitted once for all texts.

    weights/NAME.safetensors   L.synthesis [K, C/d, d] int8, L.scale [K, C/d, 1] fp32,
                               L.roots [C/d, d, d] fp16, L.mean [C], L.lows, L.steps [K] fp32,
                               L.bits [K] uint8 of each layer L; rates [d/2] fp32
    weights/NAME.json          its card: which model, what it was fitted on, figures

The analysis is not in the file: it is the projection on the rows of the synthesis S in the metric M
that errors are measured in, M·Sᵀ·(S·M·Sᵀ)⁻¹. The file has the root of each head's metric.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import torch
from safetensors.torch import save
from torch import Tensor

from tamis.probes.attention.coded_layer import (
    MAX_BITS,
    CodedKVLayer,
    LayerCode,
    PassageRotation,
    encode_layers,
)
from tamis.probes.attention.kv_layers import KVLayers
from tamis.probes.attention.recorder import KVBatch, KVLayer
from tamis.probes.card import ModelCard
from tamis.probes.card_file import read_card, read_weights, write_weights_and_card
from tamis.probes.errors import BadModelFile, ProbeMismatch

FORMAT = 1
WEIGHTS_FOLDER = Path(__file__).parent / "weights"
_codecs: WeakValueDictionary[str, KVCodec] = WeakValueDictionary()


@dataclass(frozen=True, slots=True)
class CodecCard:
    """What a codec is for and was fitted on.

    Attributes:
        model, revision: of the proxy; it is used for no other.
        opening: tokens of the template before a passage, which keys are rotated by: it is used
            for no template with more or fewer.
        layers: the first layers, L. heads, size: of keys, Hkv and d.
        bits: of a component, in the mean over all that are coded.
        tokens: that it was fitted on. trained_on: the files they are from, each with its SHA-256.
        figures: bytes of a token, and the relative error that is left.
    """

    model: str
    revision: str
    opening: int
    layers: int
    heads: int
    size: int
    bits: float
    tokens: int
    trained_on: tuple[Mapping[str, Any], ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)
    weights_sha256: str = ""
    format: int = FORMAT


@dataclass(frozen=True, eq=False)
class KVCodec:
    """How passages of one model are coded, layer by layer.

    Attributes:
        layers: codes of the first L layers. Only the last may be without values.
        tensors: what its file holds.
    """

    layers: tuple[LayerCode, ...]
    card: CodecCard
    tensors: Mapping[str, Tensor]

    @property
    def digest(self) -> str:
        """What tells codecs apart: 12 hex digits over weights and what they are for."""
        card = self.card
        facts = (card.weights_sha256, card.model, card.revision, card.opening, card.layers)
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:12]

    def covers(self, first: int, stop: int, with_values: bool) -> bool:
        """Whether layers `[first, stop)` can be coded, and the last of them with its values."""
        return stop <= len(self.layers) and (self.layers[stop - 1].has_values or not with_values)

    def encode(self, layers: Sequence[KVLayer], first: int = 0) -> list[CodedKVLayer]:
        """A passage's layers from `first` on, coded; it must cover them."""
        codes = self.layers[first : first + len(layers)]
        return [code.encode(layer) for code, layer in zip(codes, layers, strict=True)]

    def encode_batch(self, batch: KVBatch) -> list[KVLayers]:
        """What `encode` makes of each passage of a batch, for all of them together."""
        codes = self.layers[batch.first : batch.first + len(batch.parts) // 2]
        packed = encode_layers(codes, batch.parts, batch.sizes, batch.tokens.places)
        found: list[KVLayers] = []
        for own in batch.split(packed, 0):
            parts = torch.split(own, [code.token_bytes for code in codes], 1)
            found.append([CodedKVLayer(*pair) for pair in zip(parts, codes, strict=True)])
        return found

    def join(self, first: int, packed: Tensor, tokens: int, layers: int) -> list[CodedKVLayer]:
        """The layers of an entry, from their bytes one after the other.

        Raises:
            ValueError: they are not so many bytes, or the codec has not so many layers.
        """
        if first + layers > len(self.layers):
            raise ValueError(f"{first + layers} layers, and the codec has {len(self.layers)}")
        codes = self.layers[first : first + layers]
        parts = torch.split(packed, [tokens * code.token_bytes for code in codes])
        pairs = zip(parts, codes, strict=True)
        return [CodedKVLayer(part.view(tokens, code.token_bytes), code) for part, code in pairs]

    def check(self, card: ModelCard) -> None:
        """Checks that it is a model's own.

        Raises:
            ProbeMismatch: it is of another model or revision.
        """
        if (self.card.model, self.card.revision) != (card.name, card.revision):
            raise ProbeMismatch(
                f"the codec is for {self.card.model} at {self.card.revision}, and the model is "
                f"{card.name} at {card.revision}; fit one: tamis lab fit-codec"
            )

    def save(self, path: Path) -> KVCodec:
        """Writes the file and its card; returns the codec."""
        weights, card = _files(path)
        write_weights_and_card(weights, save(dict(self.tensors)), card, asdict(self.card))
        return self

    @classmethod
    def load(cls, path: Path) -> KVCodec:
        """Reads and checks a codec.

        Raises:
            BadModelFile: a file is missing, damaged, foreign, or of another format.
        """
        weights, card_path = _files(path)
        card = read_card(card_path, CodecCard, FORMAT, "a codec's card")
        tensors = read_weights(weights, card.weights_sha256, " as a codec")
        try:
            return codec_of(tensors, card)
        except (KeyError, RuntimeError, ValueError) as error:
            raise BadModelFile(f"{path} is no codec: {error}") from error


def _files(path: Path) -> tuple[Path, Path]:
    return path.with_suffix(".safetensors"), path.with_suffix(".json")


def codec_of(tensors: Mapping[str, Tensor], card: CodecCard) -> KVCodec:
    """A codec from the tensors of its file; entries that it codes can be read while it lives."""
    rotation = PassageRotation(tensors["rates"])
    layers = tuple(_layer_code(tensors, n, card, rotation) for n in range(card.layers))
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    if not card.weights_sha256:
        card = replace(card, weights_sha256=hashlib.sha256(save(tensors)).hexdigest())
    codec = KVCodec(layers, card, tensors)
    return _codecs.setdefault(codec.digest, codec)


def shipped_codec(card: ModelCard) -> KVCodec | None:
    """The codec that ships for a model; None where there is none for this revision."""
    codec = _load_shipped(card.name)
    return codec if codec is not None and codec.card.revision == card.revision else None


class CodecMissing(BadModelFile):
    """An entry is whole, and the codec that it was written with is not here."""


def find_codec(digest: str) -> KVCodec:
    """The codec that an entry was written with: one that is loaded, or ships.

    Raises:
        CodecMissing: there is none.
    """
    if (found := _codecs.get(digest)) is not None:
        return found
    for path in sorted(WEIGHTS_FOLDER.glob("*.safetensors")):
        found = _load_shipped(path.stem.replace("--", "/"))
        if found is not None and found.digest == digest:
            return found
    raise CodecMissing(f"it is whole, and coded by the codec {digest}, which is not here")


@lru_cache(maxsize=8)
def _load_shipped(name: str) -> KVCodec | None:
    path = WEIGHTS_FOLDER / f"{name.replace('/', '--')}.safetensors"
    return KVCodec.load(path) if path.is_file() else None


def _layer_code(
    tensors: Mapping[str, Tensor], layer: int, card: CodecCard, rotation: PassageRotation
) -> LayerCode:
    own = {
        name: tensors[f"{layer}.{name}"]
        for name in ("synthesis", "scale", "roots", "mean", "lows", "steps", "bits")
    }
    if not 1 <= int(own["bits"].min()) <= int(own["bits"].max()) <= MAX_BITS:
        raise ValueError(f"layer {layer} has codes of other than 1 to {MAX_BITS} bits")
    synthesis = (own["synthesis"] * own["scale"]).flatten(1)
    analysis = analysis_of(synthesis, own["roots"])
    channels = len(own["mean"])
    return LayerCode(
        own["mean"],
        analysis,
        synthesis,
        own["lows"],
        own["steps"],
        own["bits"].long(),
        rotation,
        card.heads,
        card.size,
        has_values=channels == 2 * card.heads * card.size,
    )


def analysis_of(synthesis: Tensor, roots: Tensor) -> Tensor:
    """The analysis `[C, K]` that gives the least error of a synthesis `[K, C]` in a metric.

    Args:
        roots: `[C/d, d, d]` of the metrics of all heads of keys and values.
    """
    root: Tensor = torch.block_diag(*roots.double())  # type: ignore[no-untyped-call]
    seen = root @ synthesis.double().T  # [C, K]
    projection: Tensor = torch.linalg.solve(seen.T @ seen, seen.T)  # [K, C]
    return (root @ projection.T).float()
