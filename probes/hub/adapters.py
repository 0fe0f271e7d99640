"""Trained low-rank adapters: stored on disk, and merged into the model they were trained on.

A folder contains `adapters.safetensors`, with `NAME.a [rank, I]` and `NAME.b [O, rank]` in fp32 for
each projection, and `adapters.json`, its card. When a model is loaded, W becomes W + scale · B A,
computed in fp32 and rounded to the model's dtype, so a sharpened proxy runs as fast as its base.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from tamis.probes.attention.linear_kernels import unpack
from tamis.probes.card_file import read_card, read_weights, write_weights_and_card
from tamis.probes.errors import BadModelFile, ProbeMismatch
from tamis.probes.hub.sharpened import CARD, WEIGHTS, sharpened_revision
from tamis.probes.model.proxy import Proxy

FORMAT = 1


@dataclass(frozen=True, slots=True)
class AdapterCard:
    """What adapters were trained on and with; they are refused with any other model.

    Attributes:
        name: of the resulting model.
        base: the proxy they were trained on, as `load_proxy` takes it: a name or a folder.
        revision, template: of that proxy. Its revision must match, its location may change.
        rank, scale: the largest rank of an adapter, and the factor of its product.
        layers: the adapted layers.
        depth: the number of layers that were read in training; adapters do not help deeper ones.
        trained_on: per training set its name, SHA-256 and the number of questions used.
        recipe: every other setting that affected the result, the seed included.
        figures: the training curve on held-out articles.
        weights_sha256: of the safetensors file beside the card.
    """

    name: str
    base: str
    revision: str
    template: str
    rank: int
    scale: float
    layers: tuple[int, ...]
    depth: int
    trained_on: tuple[Mapping[str, Any], ...] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)
    weights_sha256: str = ""
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class Adapters:
    """Adapters `a [rank, I]` and `b [O, rank]` by name of projection, with their card."""

    pairs: Mapping[str, tuple[Tensor, Tensor]]
    card: AdapterCard

    @property
    def revision(self) -> str:
        """The revision of the resulting model: the base's, and the hash of the adapters."""
        return sharpened_revision(self.card.revision, self.card.weights_sha256)

    def save(self, folder: Path) -> Adapters:
        """Writes weights and card into a folder; returns the adapters with the complete card."""
        tensors = {f"{name}.a": a for name, (a, _) in self.pairs.items()}
        tensors |= {f"{name}.b": b for name, (_, b) in self.pairs.items()}
        data = save({name: t.detach().float().cpu().contiguous() for name, t in tensors.items()})
        card = replace(self.card, weights_sha256=hashlib.sha256(data).hexdigest())
        write_weights_and_card(folder / WEIGHTS, data, folder / CARD, asdict(card))
        return Adapters(self.pairs, card)

    @classmethod
    def load(cls, folder: Path) -> Adapters:
        """Reads and checks a folder of adapters.

        Raises:
            BadModelFile: a file is missing, damaged, foreign, of another format, or has NaN values.
        """
        card = read_card(folder / CARD, AdapterCard, FORMAT, "the card of adapters")
        path = folder / WEIGHTS
        tensors = read_weights(path, card.weights_sha256, " as adapters")
        names = sorted({name.rpartition(".")[0] for name in tensors})
        try:
            return cls({n: (tensors[f"{n}.a"], tensors[f"{n}.b"]) for n in names}, card)
        except KeyError as error:
            raise BadModelFile(f"{path} lacks {error}; every adapter has a and b") from error

    def apply_to(self, proxy: Proxy) -> Proxy:
        """Merges the adapters into a proxy in place, and returns it.

        Adapters of layers that the proxy was not loaded with are ignored.

        Raises:
            ProbeMismatch: the proxy has another revision.
            BadModelFile: a projection is missing or has another shape.
        """
        if self.card.revision != proxy.card.revision:
            raise ProbeMismatch(
                f"the adapters were learnt on {self.card.base} at {self.card.revision}, and this "
                f"is {proxy.card.name} at {proxy.card.revision}; learn some for it: "
                "tamis lab probe lora --proxy PROXY --data FILE --out FOLDER"
            )
        merge(proxy.body, self)
        proxy.forget_weights()
        proxy.card = replace(proxy.card, name=self.card.name, revision=self.revision)
        return proxy


@torch.no_grad()
def merge(model: Any, adapters: Adapters) -> None:
    """Adds `scale · B A` to the projections, in place; the rest of the model is unchanged.

    Raises:
        BadModelFile: a projection is missing or has another shape.
    """
    unpack(model)  # the layers of a proxy that was used before are packed
    modules = dict(model.named_modules())
    for name, (a, b) in adapters.pairs.items():
        if _layer_number(name) >= int(model.config.num_hidden_layers):
            continue
        module, shape = modules.get(name), (b.shape[0], a.shape[1])
        if not isinstance(module, nn.Linear) or tuple(module.weight.shape) != shape:
            raise BadModelFile(
                f"the adapters hold {name} {list(shape)}, and {type(model).__name__} has none such"
            )
        weight = module.weight
        merged = weight.float() + adapters.card.scale * (b @ a).to(weight.device)
        weight.copy_(merged.to(weight.dtype))


def _layer_number(name: str) -> int:
    """The layer of a projection, or -1 if its name has no number."""
    numbers = [part for part in name.split(".") if part.isdecimal()]
    return int(numbers[0]) if numbers else -1
